//! A child process that ends with its guard, together with its process group. [`end_descendants`] ends the processes
//! that have left the group, as a daemon does.
//!
//! No guard helps against `kill -9` of the laboratory itself.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::support::{complain, usage};

/// How long the laboratory waits for killed processes. A process that is left then may not be killed by this user, as
/// with a setuid program, or hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks.
const GLANCE: Duration = Duration::from_millis(1);

/// A running child at the head of a process group of its own. Dropping it kills and reaps the group.
#[derive(Debug)]
pub struct ChildGuard {
    child: Child,
}

impl ChildGuard {
    /// Starts `command` in a new process group, so that Ctrl-C in the terminal does not reach the child. The laboratory
    /// ends it, after it has read the last figures.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        // The laboratory becomes the parent of orphaned descendants (PR_SET_CHILD_SUBREAPER), so that it can wait for
        // them too.
        prctl::set_child_subreaper(true)?;
        Ok(Self { child: command.process_group(0).spawn()? })
    }

    /// The process id, which is also the id of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, if it has.
    ///
    /// It is not reaped before the guard is dropped: the kernel gives a zombie's number to no other process, so the
    /// signal to the group cannot hit a stranger.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match waitid(Id::Pid(self.pid()), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG)
        {
            Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
            _ => None,
        }
    }

    /// Waits for the end of the child; none if it still runs after `limit`.
    pub fn exit_within(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.exit_status() {
                None if Instant::now() < deadline => thread::sleep(GLANCE),
                status => return status,
            }
        }
    }

    /// Sends a signal to the child alone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    fn pid(&self) -> Pid {
        pid(self.child.id())
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // It fails only if the group has ended, or may not be killed.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let deadline = Instant::now() + PATIENCE;
        // A negative number waits for any process of the group.
        while reap(Pid::from_raw(-self.pid().as_raw())) && Instant::now() < deadline {
            thread::sleep(GLANCE);
        }
    }
}

/// Calls [`end_descendants`] when it is dropped. It is made before the first [`ChildGuard`], so it is dropped after the
/// last.
#[derive(Debug)]
pub struct Descendants;

impl Drop for Descendants {
    fn drop(&mut self) {
        end_descendants();
    }
}

/// Kills and reaps all processes that descend from this one, also those that have a group or a session of their own.
///
/// It cannot tell whose descendant is whose, so no [`ChildGuard`] may be alive.
pub fn end_descendants() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let descendants = usage::descendants();
        if descendants.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            return complain(format_args!("Cannot be ended and are left behind: processes {descendants:?}"));
        }
        kill_descendants();
        // The children of the dead become ours and are reaped in the next round.
        reap(Pid::from_raw(-1));
        thread::sleep(GLANCE);
    }
}

/// Kills all processes that descend from this one, and leaves it to their guards to reap them.
pub fn kill_descendants() {
    for descendant in usage::descendants() {
        // It fails only if the process has ended, or may not be killed. Its number is not in use again yet: the kernel
        // gives out all other numbers first.
        let _ = kill(pid(descendant), Signal::SIGKILL);
    }
}

/// Reaps all children that `which` means and that have ended; says whether others still run.
fn reap(which: Pid) -> bool {
    loop {
        match waitpid(which, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            // No child is left (ECHILD).
            Err(_) => return false,
            Ok(_) => {}
        }
    }
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.try_into().expect("a process id fits in pid_t, where it came from"))
}
