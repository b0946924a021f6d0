//! Signals that come before the server listens.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::harness::{Client, DEADLINE, Process, binary};

/// A name of no machine (RFC 6761, 6.2).
const NAME: &str = "okloop.test";

/// Lets `unshare` start a command that may mount what only it sees.
const OWN_FILES: [&str; 2] = ["--map-root-user", "--mount"];

/// The handlers come before everything else, even before the arguments.
#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn a_process_that_only_tells_its_version_has_set_the_handlers_before() {
    let mut strace = Command::new("strace");
    let output = strace.args(["-e", "trace=rt_sigaction"]).arg(binary("okloop")).arg("--version").output();
    let trace = String::from_utf8(output.expect("strace runs").stderr).expect("it is text");
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1] {
        assert!(trace.contains(&format!("rt_sigaction({signal}, {{sa_handler=0x")), "{signal}: {trace}");
    }
}

#[test]
#[ignore = "needs to be a name server; .ci/run runs it where that is allowed"]
fn a_report_that_is_asked_for_while_the_name_server_is_slow_comes_later() {
    let Some(names) = NameServer::start() else { return };
    let server = names.okloop();
    let query = names.wait_for_query();
    server.signal(SIGUSR1);
    names.answer(query);
    Client::greeted(server.port());
    server.line_with("open=0 ");
    server.stop();
}

#[test]
#[ignore = "needs to be a name server; .ci/run runs it where that is allowed"]
fn a_stop_while_the_name_server_is_slow_ends_the_process_soon() {
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let Some(names) = NameServer::start() else { return };
        let server = names.okloop();
        names.wait_for_query();
        let start = Instant::now();
        server.signal(signal);
        assert_eq!(server.finish().status, Some(0), "{signal}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?} after {signal}", start.elapsed());
    }
}

/// A name server that answers when the test wants.
struct NameServer(UdpSocket);

type Query = (Vec<u8>, SocketAddr);

impl NameServer {
    /// `None` if only another user may be one, or if a process may not have an `/etc/resolv.conf` of its own.
    fn start() -> Option<Self> {
        let own_files = Command::new("unshare").args(OWN_FILES).arg("true").status();
        if !own_files.is_ok_and(|status| status.success()) {
            return None;
        }
        // Any free address: the tests run beside each other.
        let addresses = (1..100).map(|number| format!("127.0.53.{number}:53"));
        for address in addresses {
            match UdpSocket::bind(address) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(*DEADLINE)).expect("the time-out is not zero");
                    return Some(Self(socket));
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no address is free");
    }

    /// Starts a server whose name has its address from here.
    fn okloop(&self) -> Process {
        let address = self.0.local_addr().expect("it is bound").ip();
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("resolv.conf.{address}"));
        fs::write(&path, format!("nameserver {address}\n")).expect("a file can be made");
        let script = "mount --bind \"$1\" /etc/resolv.conf && exec \"$0\" --host \"$2\" --port 0";
        let mut command = Command::new("unshare");
        let command =
            command.args(OWN_FILES).args(["sh", "-c", script]).arg(binary("okloop")).arg(path).arg(NAME);
        Process::spawn(command.env_remove("RUST_LOG"))
    }

    /// Waits until the name is asked for.
    fn wait_for_query(&self) -> Query {
        let mut query = vec![0; 512];
        let (length, client) = self.0.recv_from(&mut query).expect("the name is asked for");
        query.truncate(length);
        (query, client)
    }

    /// Answers this query and all that follow, until the name is not asked for any more: 127.0.0.1 (RFC 1035, 4.1).
    fn answer(&self, first: Query) {
        let mut query = Some(first);
        while let Some((mut message, client)) = query {
            /// The type of the query, in front of its class at the end.
            const ADDRESS: [u8; 2] = [0, 1];
            // A response, with recursion, and without an error.
            message[2..4].copy_from_slice(&[0x81, 0x80]);
            if message[message.len() - 4..][..2] == ADDRESS {
                message[7] = 1;
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
            }
            self.0.send_to(&message, client).expect("loopback takes it");
            self.0.set_read_timeout(Some(Duration::from_millis(200))).expect("the time-out is not zero");
            let mut next = vec![0; 512];
            query =
                self.0.recv_from(&mut next).ok().map(|(length, client)| (next[..length].to_vec(), client));
        }
    }
}
