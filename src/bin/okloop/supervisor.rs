//! What a supervisor such as systemd gives to the server, and what it wants to hear: sockets that it has opened
//! (`sd_listen_fds(3)`), and what the server does (`sd_notify(3)`). Both come through variables of the environment. Without
//! them nothing here makes a system call.

use std::error::Error;

use listenfd::ListenFd;
use log::info;
use okloop::Server;

#[cfg(unix)]
pub use news::{ready, stopping, watchdog, watchdog_period};
#[cfg(windows)]
pub use no_news::{ready, stopping, watchdog, watchdog_period};

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
            #[cfg(unix)]
            if let Ok(Some(listener)) = self.0.take_unix_listener(index) {
                server.adopt_unix(listener)?;
                continue;
            }
            let listener = self.0.take_tcp_listener(index);
            let listener = listener.map_err(|error| format!("No passed socket to listen on: {error}"))?;
            listener.map_or(Ok(()), |listener| server.adopt(listener))?;
        }
        info!("Sockets passed by the supervisor: {}", self.0.len());
        Ok(())
    }
}

#[cfg(unix)]
mod news {
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::time::Duration;
    use std::{env, io};

    use log::warn;
    use sd_notify::NotifyState;

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

/// A service of Windows tells its news in another way.
#[cfg(windows)]
mod no_news {
    use std::time::Duration;

    pub fn ready() {}

    pub fn stopping(_: u64) {}

    pub fn watchdog_period() -> Option<Duration> {
        None
    }

    pub fn watchdog() {}
}
