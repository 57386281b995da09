//! The parts of the handover that need no driver: the library's tables of what is allocated and borrowed, its image, and the
//! ledger.

mod borrowing;
mod desk;
#[path = "preload/heap.rs"]
mod heap;
mod ledger;
#[path = "preload/list.rs"]
#[allow(unsafe_code, reason = "memory of its own")]
mod list;
#[path = "preload/system.rs"]
#[allow(unsafe_code, dead_code, reason = "the library uses the rest")]
mod system;
#[path = "preload/table.rs"]
#[allow(unsafe_code, dead_code, reason = "the library uses the rest")]
mod table;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use table::{Entry, Kind, Table};

// For `system`.
use crate::handover::protocol;

fn table() -> Table {
    // SAFETY: all zero is the empty table.
    #[expect(unsafe_code, reason = "as the library's own memory is at first")]
    unsafe {
        std::mem::zeroed()
    }
}

fn entry(kind: Kind, key: u64, owner: u64) -> Entry {
    Entry { key, size: key ^ 0xabc, owner, kind, gpu: 3, handles: 1, mappings: 2 }
}

/// Addresses as drivers give them, and handles, with many that share a place.
fn keys() -> impl Strategy<Value = u64> {
    prop_oneof![
        (1..200_u64).prop_map(|n| 0x7f00_0000_0000 + n * 512),
        (1..200_u64).prop_map(|n| 0x7f00_0000_0000 + n * (2 << 20)),
        (1..200_u64).prop_map(|n| 0x7f00_0000_0000 + n * (1 << 30)),
        1..100_u64,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_table_is_a_map(steps in proptest::collection::vec((keys(), any::<bool>(), 0..3_u64), 1..4000)) {
        let mut table = table();
        let mut model: HashMap<(bool, u64), u64> = HashMap::new();
        for (key, is_array, what) in steps {
            let kind = if is_array { Kind::Array } else { Kind::Memory };
            match what {
                0 | 1 if !model.contains_key(&(is_array, key)) => {
                    prop_assert!(table.insert(entry(kind, key, what)));
                    model.insert((is_array, key), what);
                }
                _ => {
                    let removed = table.remove(kind, key).map(|entry| entry.owner);
                    prop_assert_eq!(removed, model.remove(&(is_array, key)));
                }
            }
        }
        for ((is_array, key), owner) in &model {
            let kind = if *is_array { Kind::Array } else { Kind::Memory };
            prop_assert_eq!(table.get(kind, *key).map(|entry| entry.owner), Some(*owner));
        }
        let mut owned = 0;
        table.remove_owned(Kind::Memory, 1, |_| owned += 1);
        let expected = model.iter().filter(|((is_array, _), owner)| !is_array && **owner == 1).count();
        prop_assert_eq!(owned, expected);
        for ((is_array, key), owner) in &model {
            let kind = if *is_array { Kind::Array } else { Kind::Memory };
            prop_assert_eq!(table.remove(kind, *key).is_some(), *is_array || *owner != 1);
        }
    }
}

#[test]
fn a_million_neighbours_are_found_and_removed_at_once() {
    let mut table = table();
    let keys = || (1..=1_000_000_u64).map(|n| 0x7f00_0000_0000 + n * 512);
    for key in keys() {
        assert!(table.insert(entry(Kind::Memory, key, 0)));
    }
    // In the order of allocation, which leaves no gap behind the entry: a scan for one would never end.
    for key in keys() {
        assert!(table.remove(Kind::Memory, key).is_some());
    }
    assert!(table.get(Kind::Memory, 0x7f00_0000_0000 + 512).is_none());
}

/// Cargo does not show what the compiler says when `build.rs` runs it.
#[test]
fn the_library_compiles_without_a_warning() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/handover/preload/lib.rs");
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.args(["--crate-type", "cdylib", "--edition", "2024", "-C", "panic=abort", "-D", "warnings"]);
    // A file of its own: the compiler puts a new one into its place, which for root would be `/dev/null`'s, too.
    let place = tempfile::tempdir().unwrap();
    compiler.args(["--emit", "metadata", "--out-dir"]).arg(place.path()).arg(source);
    let status = compiler.status().expect("the compiler runs");
    assert!(status.success());
}

/// What nm(1) tells of the library: the symbols that it defines, and those that it wants.
fn symbols(option: &str) -> Vec<String> {
    let image = Path::new(concat!(env!("OUT_DIR"), "/preload.so"));
    let output = Command::new("nm").args(["-D", "-P", option]).arg(image).output().expect("nm runs");
    let text = String::from_utf8(output.stdout).expect("ASCII");
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn the_library_wants_nothing_that_a_c_library_lacks() {
    // In glibc 2.2.5 and later, and in musl; without a version, so that each binds its oldest.
    let everywhere = ["bcmp", "dl_iterate_phdr", "memcpy", "memmove", "memset", "strlen"];
    let wanted = symbols("--undefined-only");
    assert!(!wanted.is_empty());
    for symbol in wanted {
        assert!(everywhere.contains(&symbol.as_str()), "{symbol}");
    }
}

#[test]
fn the_library_defines_hooks_and_nothing_else() {
    for symbol in symbols("--defined-only") {
        assert!(["cu", "nvml", "dlsym"].iter().any(|prefix| symbol.starts_with(prefix)), "{symbol}");
    }
}
