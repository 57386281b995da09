//! A terminal for a process under test, and what appears on it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal of chosen width.
pub struct Terminal {
    /// The process's side. Closed before the output is read to its end.
    side: File,
    output: JoinHandle<String>,
}

impl Terminal {
    pub fn new(columns: u16) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("a terminal");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&controller, size).expect("a terminal has a size");
        let path = ptsname(&controller, Vec::new()).expect("a terminal has a name").into_string().expect("ASCII");
        let side = OpenOptions::new().read(true).write(true).open(path).expect("its other side opens");
        Self { side, output: std::thread::spawn(move || read_all(controller)) }
    }

    /// For one of the process's streams.
    pub fn stdio(&self) -> Stdio {
        self.side.try_clone().expect("a descriptor is left").into()
    }

    /// All that appeared, once every process on it has ended.
    pub fn output(self) -> String {
        drop(self.side);
        self.output.join().expect("it is read")
    }
}

/// Until the last process closes the other side, which reads as an error.
fn read_all(controller: OwnedFd) -> String {
    let mut controller = File::from(controller);
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = controller.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}
