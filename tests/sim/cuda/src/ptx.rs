//! Programs in PTX, as far as they tell what device memory they take.

use crate::abi::{In, Result};

/// Bytes of the variables that a program declares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// In the memory of the context, for as long as the program is loaded.
    pub global: u64,
    /// On the stack of each thread of its functions.
    pub local: u64,
}

/// What an image declares; nothing where it is machine code, which begins with a byte that is no text.
pub(crate) fn declared(image: In<u8>) -> Result<Declared> {
    match image.get()? {
        b'.' | b'/' => Ok(read(&image.text().get()?.to_string_lossy())),
        _ => Ok(Declared::default()),
    }
}

fn read(program: &str) -> Declared {
    let mut declared = Declared::default();
    // Parameters may be said to point into such memory, and take none of it.
    for line in program.lines().filter(|line| !line.contains(".param")) {
        for word in line.split_whitespace() {
            match word {
                ".global" => declared.global += size(line),
                ".local" => declared.local += size(line),
                _ => {}
            }
        }
    }
    declared
}

/// The size of the variable that a line declares: `.local .align 16 .b8 stack[4096];`
fn size(line: &str) -> u64 {
    let declaration = line.split('=').next().unwrap_or(line);
    let bits = declaration.split_whitespace().find_map(|word| word.strip_prefix(".")?.get(1..)?.parse::<u64>().ok());
    let counts = declaration.split('[').skip(1).filter_map(|rest| rest.split(']').next()?.parse::<u64>().ok());
    bits.unwrap_or(0) / 8 * counts.product::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_count_by_what_they_take() {
        let program = "
            // made by hand
            .version 7.0
            .target sm_70
            .global .align 4 .u32 counter;
            .visible .global .align 8 .f64 table[2][16] = {1, 2};
            .visible .entry deep(.param .u64 .ptr .global .align 4 out)
            {
                .local .align 16 .b8 stack[4096];
                ld.global.u32 %r1, [counter];
                st.local.u32 [stack], %r1;
            }";
        assert_eq!(read(program), Declared { global: 4 + 256, local: 4096 });
    }
}
