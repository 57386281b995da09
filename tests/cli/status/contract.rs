//! The JSON of `status`, strictly: a name too many or too few fails the test.

use serde::{Deserialize, Deserializer};

/// Reads a value that may be null but must be there: a plain `Option` may be left out.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(value)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    pub schema: u32,
    pub gpus: Vec<Gpu>,
    pub balloons: Vec<Balloon>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    #[serde(deserialize_with = "present")]
    pub gpu_id: Option<u32>,
    pub uuid: String,
    pub pci_bus_id: String,
    #[serde(deserialize_with = "present")]
    pub name: Option<String>,
    pub total_bytes: u64,
    pub used_bytes: u64,
    pub free_bytes: u64,
    pub balloon_bytes: u64,
    #[serde(deserialize_with = "present")]
    pub utilization_percent: Option<u32>,
    #[serde(deserialize_with = "present")]
    pub compute_mode: Option<String>,
    pub processes: Vec<Process>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub pid: u32,
    #[serde(deserialize_with = "present")]
    pub user: Option<String>,
    #[serde(deserialize_with = "present")]
    pub command: Option<String>,
    #[serde(deserialize_with = "present")]
    pub used_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balloon {
    pub name: String,
    #[serde(deserialize_with = "present")]
    pub pid: Option<u32>,
    #[serde(deserialize_with = "present")]
    pub user: Option<String>,
    #[serde(deserialize_with = "present")]
    pub command: Option<String>,
    #[serde(deserialize_with = "present")]
    pub reason: Option<String>,
    #[serde(deserialize_with = "present")]
    pub state: Option<String>,
    #[serde(deserialize_with = "present")]
    pub started_at: Option<String>,
    #[serde(deserialize_with = "present")]
    pub ends_at: Option<String>,
    pub gpus: Vec<Part>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    #[serde(deserialize_with = "present")]
    pub gpu_id: Option<u32>,
    pub uuid: String,
    #[serde(deserialize_with = "present")]
    pub is_inflated: Option<bool>,
    #[serde(deserialize_with = "present")]
    pub target_bytes: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub allocated_bytes: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub allocated_mb: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub num_chunks: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub chunk_size_mb: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub overhead_bytes: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub handed_over_bytes: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub free_memory_mb: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub total_memory_mb: Option<u64>,
}

impl Status {
    #[track_caller]
    pub fn read(text: &str) -> Self {
        assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}
