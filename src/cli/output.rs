//! Watches standard output for a reader that has closed it, so that a command that follows something ends at once and not
//! when it writes next. It writes nothing.

use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

/// Waits until nothing can read from standard output any more: the last reader of a pipe, the other end of a socket or the
/// terminal is closed. Waits for ever if standard output is a file or a device that has no reader.
pub(super) async fn closed() {
    let (sender, receiver) = oneshot::channel();
    // The thread ends with the process: no call interrupts a poll that waits for a reader to close.
    let watching = thread::Builder::new().name("output".to_owned()).spawn(move || {
        if wait_for_hang_up(std::io::stdout()) {
            let _ = sender.send(());
        }
    });
    match (watching, receiver.await) {
        (Ok(_), Ok(())) => {}
        // Without the thread the next write notices it.
        _ => std::future::pending().await,
    }
}

/// Blocks until the other end of a descriptor is closed. Returns false if that cannot be waited for.
fn wait_for_hang_up(descriptor: impl AsFd) -> bool {
    loop {
        // Errors and hang-ups are reported without being asked for: POLLERR of a pipe, POLLHUP of a socket and a terminal.
        match poll(&mut [PollFd::new(&descriptor, PollFlags::empty())], None) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}
