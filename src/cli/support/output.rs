//! Watches standard output, so that a following command ends when its reader closes it, and not
//! only at its next write.

use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

/// Waits until the last reader of standard output has closed: of a pipe, a socket or a terminal.
/// Waits forever if standard output is a file or a device without a reader.
pub(in crate::cli) async fn closed() {
    let (sender, receiver) = oneshot::channel();
    // The thread ends with the process, because no call interrupts this poll.
    let watching = thread::Builder::new().name("output".to_owned()).spawn(move || {
        if wait_for_hang_up(std::io::stdout()) {
            let _ = sender.send(());
        }
    });
    match (watching, receiver.await) {
        (Ok(_), Ok(())) => {}
        // Without the thread, the next write notices the closed reader.
        _ => std::future::pending().await,
    }
}

/// Blocks until the other end of a descriptor is closed. Returns false if the descriptor cannot be
/// polled.
fn wait_for_hang_up(descriptor: impl AsFd) -> bool {
    loop {
        // Errors and hang-ups are reported without being asked for: POLLERR of a pipe, POLLHUP of a
        // socket and a terminal.
        match poll(&mut [PollFd::new(&descriptor, PollFlags::empty())], None) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}
