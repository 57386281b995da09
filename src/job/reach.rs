//! Whether a library can be preloaded into a program: the dynamic linker must be there and be willing.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why a library does not get into a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    #[error("it is statically linked")]
    Static,
    #[error("it runs with another user's rights")]
    Setuid,
    #[error("it is for another machine")]
    OtherMachine,
}

/// Looks at a program's file. A script counts as within reach: what runs it mostly is.
///
/// # Errors
/// Why a library does not get into it.
pub fn reach(program: &Path) -> Result<(), OutOfReach> {
    let Ok(mut file) = File::open(program) else { return Ok(()) };
    if fs::metadata(program).is_ok_and(|metadata| metadata.mode() & 0o6000 != 0) {
        return Err(OutOfReach::Setuid);
    }
    // The headers stand at the beginning of the file, whoever linked it.
    let mut start = Vec::new();
    let _ = file.by_ref().take(64 << 10).read_to_end(&mut start);
    interpreter(&start)
}

/// Whether an ELF file (elf(5), 64 bits, little-endian) asks for a dynamic linker.
fn interpreter(start: &[u8]) -> Result<(), OutOfReach> {
    const INTERPRETER: u32 = 3;
    const CLASS_64: u8 = 2;
    if !start.starts_with(b"\x7fELF") {
        return Ok(());
    }
    let half = |at: usize| start.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    if start.get(4) != Some(&CLASS_64) || half(18) != machine {
        return Err(OutOfReach::OtherMachine);
    }
    let offset = start.get(32..40).and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok());
    let (offset, size, count) = (offset.unwrap_or(0), usize::from(half(54)), usize::from(half(56)));
    let kind = |index: usize| {
        let at = offset.checked_add(index * size)?;
        Some(u32::from_le_bytes(start.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    if (0..count).any(|index| kind(index) == Some(INTERPRETER)) { Ok(()) } else { Err(OutOfReach::Static) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_within_reach() {
        assert_eq!(reach(Path::new("/bin/sh")), Ok(()));
        assert_eq!(reach(&std::env::current_exe().unwrap()), Ok(()));
    }

    #[test]
    fn a_program_without_linker_is_not() {
        let mut elf = fs::read("/proc/self/exe").unwrap();
        elf.truncate(64 << 10);
        assert_eq!(interpreter(&elf), Ok(()));
        let headers = u64::from_le_bytes(elf[32..40].try_into().unwrap()) as usize;
        let size = usize::from(u16::from_le_bytes([elf[54], elf[55]]));
        for index in 0..usize::from(u16::from_le_bytes([elf[56], elf[57]])) {
            let at = headers + index * size;
            if elf[at] == 3 {
                elf[at] = 4;
            }
        }
        assert_eq!(interpreter(&elf), Err(OutOfReach::Static));
        elf[4] = 1;
        assert_eq!(interpreter(&elf), Err(OutOfReach::OtherMachine));
    }

    #[test]
    fn what_is_no_program_is_left_to_the_system() {
        assert_eq!(interpreter(b"#!/bin/sh\n"), Ok(()));
        assert_eq!(reach(Path::new("/no/such/program")), Ok(()));
    }
}
