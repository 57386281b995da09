//! A GPU's identity. Ordinals change with the environment; the UUID never does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The UUID of a GPU as `cuDeviceGetUuid_v2` gives it, written as `nvidia-smi -L` does: `GPU-8-4-4-4-12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct GpuUuid(pub [u8; 16]);

/// The text is no GPU UUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a GPU UUID (GPU- and 32 hexadecimal digits)")]
pub struct NotAUuid(String);

impl fmt::Display for GpuUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GPU")?;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 0 | 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for GpuUuid {
    type Err = NotAUuid;

    /// Reads `GPU-` or `MIG-` and 32 hexadecimal digits, dashes anywhere between them.
    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        let not_a_uuid = || NotAUuid(text.to_owned());
        let digits = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-")).ok_or_else(not_a_uuid)?;
        let digits: String = digits.chars().filter(|&c| c != '-').collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(not_a_uuid());
        }
        let number = u128::from_str_radix(&digits, 16).map_err(|_| not_a_uuid())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl From<GpuUuid> for String {
    fn from(uuid: GpuUuid) -> Self {
        uuid.to_string()
    }
}

impl TryFrom<String> for GpuUuid {
    type Error = NotAUuid;

    fn try_from(text: String) -> Result<Self, NotAUuid> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_back_what_it_writes() {
        let uuid = GpuUuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(uuid.to_string(), "GPU-00010203-0405-0607-0809-0a0b0c0d0eff");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "GPU-", "GPU-12", "00010203-0405-0607-0809-0a0b0c0d0eff", "GPU-0001020304050607080900zz0c0d0eff"]
        {
            assert_eq!(text.parse::<GpuUuid>(), Err(NotAUuid(text.to_owned())));
        }
    }
}
