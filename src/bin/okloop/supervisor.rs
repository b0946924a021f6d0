//! What a supervisor such as systemd gives to the server, and what it wants to hear: sockets that it has opened
//! (`sd_listen_fds(3)`), and what the server does (`sd_notify(3)`). Both come through variables of the environment. Without
//! them nothing here makes a system call.

#[cfg(unix)]
pub use unix::{Sockets, ready, stopping, watchdog, watchdog_period};
#[cfg(windows)]
pub use windows::{Sockets, ready, stopping, watchdog, watchdog_period};

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::time::Duration;
    use std::{env, io};

    use listenfd::ListenFd;
    use log::{info, warn};
    use okloop::Server;
    use sd_notify::NotifyState;

    /// Listening sockets that the supervisor has passed.
    pub struct Sockets(ListenFd);

    impl Sockets {
        /// Takes the sockets out of the environment.
        pub fn passed() -> Self {
            Self(ListenFd::from_env())
        }

        pub fn len(&self) -> usize {
            self.0.len()
        }

        /// Lets the server listen on them.
        pub fn adopt_by(mut self, server: &mut Server) -> Result<(), Box<dyn Error>> {
            for index in 0..self.0.len() {
                if let Ok(Some(listener)) = self.0.take_tcp_listener(index) {
                    server.adopt(listener)?;
                } else {
                    let listener = self.0.take_unix_listener(index);
                    let listener =
                        listener.map_err(|error| format!("No passed socket to listen on: {error}"))?;
                    listener.map_or(Ok(()), |listener| server.adopt_unix(listener))?;
                }
                info!("Socket passed by the supervisor");
            }
            Ok(())
        }
    }

    /// The server serves.
    pub fn ready() {
        notify(&[NotifyState::Ready, NotifyState::Status("Serving")]);
    }

    /// The server drains, and so many sessions are open.
    pub fn stopping(open: u64) {
        notify(&[NotifyState::Stopping, NotifyState::Status(&format!("Draining: {open} sessions are open"))]);
    }

    /// How often the supervisor must hear that the loop still turns, if it wants to. It acts after twice this time.
    pub fn watchdog_period() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|period| !period.is_zero())
    }

    /// The loop still turns.
    pub fn watchdog() {
        notify(&[NotifyState::Watchdog]);
    }

    fn notify(news: &[NotifyState<'_>]) {
        if let Some(path) = env::var_os("NOTIFY_SOCKET")
            && let Err(error) = send(news, Path::new(&path))
        {
            warn!("The supervisor cannot be told: {error}");
        }
    }

    /// `sd_notify::notify` would block the loop while the supervisor does not read: its queue holds some ten datagrams
    /// (`net.unix.max_dgram_qlen`).
    fn send(news: &[NotifyState<'_>], path: &Path) -> io::Result<()> {
        let lines: Vec<String> = news.iter().map(NotifyState::to_string).collect();
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(lines.join("\n").as_bytes(), path).map(drop)
    }
}

/// A service of Windows is started and told in other ways.
#[cfg(windows)]
#[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the functions of Unix are the same")]
mod windows {
    use std::error::Error;
    use std::time::Duration;

    use okloop::Server;

    pub struct Sockets;

    impl Sockets {
        pub fn passed() -> Self {
            Self
        }

        pub fn len(&self) -> usize {
            0
        }

        pub fn adopt_by(self, _: &mut Server) -> Result<(), Box<dyn Error>> {
            Ok(())
        }
    }

    pub fn ready() {}

    pub fn stopping(_: u64) {}

    pub fn watchdog_period() -> Option<Duration> {
        None
    }

    pub fn watchdog() {}
}
