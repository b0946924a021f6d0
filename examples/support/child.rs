//! A child process that cannot be forgotten: when its guard goes, the process and all of its group are gone too. What
//! has left the group, as a daemon does, is left to [`end_descendants`].
//!
//! Knows nothing of servers, ports or measurements. What no guard can help against is `kill -9` on ourselves.

#![allow(dead_code, reason = "no example needs all of it")]

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::procfs;

/// How long the end of all descendants is waited for. Only who may not be killed by us, or hangs in the kernel, is left
/// then.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running child at the head of a process group of its own; the whole group is killed and reaped on drop.
#[derive(Debug)]
pub struct ChildGuard {
    child: Child,
}

impl ChildGuard {
    /// Starts `command` in a new process group, so that Ctrl-C in the terminal reaches us and not the child: who
    /// started it ends it, after having measured what is left to measure.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        // Whom the child leaves behind is adopted by us (`PR_SET_CHILD_SUBREAPER`), so that Drop can wait for them too.
        prctl::set_child_subreaper(true)?;
        Ok(Self { child: command.process_group(0).spawn()? })
    }

    /// The process id, which is the id of its group too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, if it has.
    ///
    /// It is left unreaped until the guard goes: as long as it is a zombie the system gives its number to no other
    /// process, and the signal that [`Drop`] sends to the group cannot hit a stranger.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match waitid(Id::Pid(self.pid()), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG)
        {
            Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
            _ => None,
        }
    }

    /// Sends a signal to the child alone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // It is unreaped as long as the guard lives, so its number is no other process's.
        Ok(kill(self.pid(), signal)?)
    }

    fn pid(&self) -> Pid {
        pid(self.child.id())
    }
}

/// Kills and reaps all processes that descend from this one, those too that have a group or a session of their own and
/// whose parents have ended: they are ours since the first [`ChildGuard::spawn`] made us their heir.
///
/// Who still holds a guard must not call it: it cannot tell whose descendant is whose.
pub fn end_descendants() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let descendants = procfs::descendants(process::id());
        if descendants.is_empty() || Instant::now() > deadline {
            return;
        }
        for descendant in descendants {
            // One that is gone is what we want. Should its parent have reaped it just now, its number is no one's: the
            // system gives out all others first.
            let _ = kill(pid(descendant), Signal::SIGKILL);
        }
        // The children of the dead become ours, and are reaped in the next round.
        while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
        thread::sleep(Duration::from_millis(1));
    }
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.try_into().expect("a process id fits in pid_t, where it came from"))
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // Neither call can fail in a way that leaves something to do: a group that is gone already is what we want.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        // A negative number waits for any of the group; the first error is that none is left (ECHILD).
        while waitpid(Pid::from_raw(-self.pid().as_raw()), None).is_ok() {}
    }
}
