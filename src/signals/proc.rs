//! Files in `/proc`, read without the allocator: between fork and exec, and in the witness.

use rustix::fs::{Mode, OFlags};

/// The longest path: `/proc/4294967295/status`.
const PATH: usize = 24;

/// Reads the beginning of `/proc/PID/FILE` and returns how much that is: nothing if there is no such process.
pub fn read(pid: u32, file: &[u8], text: &mut [u8]) -> usize {
    let mut place = [0; PATH];
    let path = path(pid, file, &mut place);
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => rustix::io::read(&file, text).unwrap_or(0),
        Err(_) => 0,
    }
}

fn path<'a>(pid: u32, file: &[u8], place: &'a mut [u8; PATH]) -> &'a [u8] {
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut rest = pid;
    while rest > 0 || first == digits.len() {
        first -= 1;
        digits[first] = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    let mut length = 0;
    for part in [b"/proc/", &digits[first..], b"/", file] {
        for byte in part.iter().take(PATH - length) {
            place[length] = *byte;
            length += 1;
        }
    }
    &place[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_one_of_the_process() {
        for pid in [0, 7, 10, 4_194_304, u32::MAX] {
            assert_eq!(path(pid, b"status", &mut [0; PATH]), format!("/proc/{pid}/status").as_bytes());
        }
    }

    #[test]
    fn a_file_is_read_as_far_as_there_is_room() {
        let mut text = [0; 8];
        assert_eq!(read(std::process::id(), b"status", &mut text), 8);
        assert!(text.starts_with(b"Name:\t"));
        assert_eq!(read(0, b"status", &mut text), 0);
    }
}
