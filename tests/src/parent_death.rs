//! Children that die with their parent.
//!
//! The kernel ties the signal to the *thread* that started the child, and test threads end early,
//! so all children are started by one thread that lives as long as the process.
//!
//! `unsafe` is lifted here: code between fork and exec, and a signal to one process, have no safe
//! wrapper in the standard library.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::thread;

type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts a child in a process group of its own that is killed when this process ends.
pub fn spawn(command: Command) -> io::Result<Child> {
    static NURSERY: OnceLock<Mutex<SyncSender<Order>>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(16);
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(spawn_here(&mut command));
            }
        });
        Mutex::new(orders)
    });
    let (answer, result) = sync_channel(1);
    let gone = || io::Error::other("the thread that starts processes is gone");
    let orders = nursery.lock().map_err(|_| gone())?.clone();
    orders.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

fn spawn_here(command: &mut Command) -> io::Result<Child> {
    // A terminal's Ctrl-C must reach the parent alone, which then ends its children in order.
    command.process_group(0);
    // SAFETY: prctl with these arguments is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: kill takes plain numbers; the child is not yet reaped, so the id is still its own.
    if unsafe { libc::kill(pid, signal) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
