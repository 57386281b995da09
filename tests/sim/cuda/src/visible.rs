//! Which GPUs CUDA shows, from `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`.
//!
//! Odd values are read as a real driver was seen to read them: numbers like `strtol`; an entry that is invalid, or of
//! another kind than the first, ends the list; a GPU named twice before that leaves none.

use std::sync::atomic::Ordering::Relaxed;

use gpu_sim_state::State;

/// Indices into the machine, by ordinal.
pub(crate) fn gpus(state: &State) -> Vec<usize> {
    let count = state.number_of_gpus();
    let by_bus = std::env::var("CUDA_DEVICE_ORDER").is_ok_and(|order| order == "PCI_BUS_ID");
    let ordered: Vec<usize> = match by_bus {
        true => (0..count).collect(),
        false => state.fastest_first[..count].iter().map(|gpu| gpu.load(Relaxed) as usize).collect(),
    };
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Err(_) => ordered,
        Ok(list) => {
            let uuids: Vec<String> = (0..count).map(|gpu| digits(&state.uuid(gpu))).collect();
            listed(&list, &ordered, &uuids)
        }
    }
}

fn listed(list: &str, ordered: &[usize], uuids: &[String]) -> Vec<usize> {
    let by_uuid = ["GPU-", "MIG-"].iter().any(|kind| list.starts_with(kind));
    let mut shown = Vec::new();
    for entry in list.split(',') {
        let found = if by_uuid { by_prefix(entry, uuids) } else { number(entry).and_then(|n| ordered.get(n)).copied() };
        match found {
            None => break,
            Some(gpu) if shown.contains(&gpu) => return Vec::new(),
            Some(gpu) => shown.push(gpu),
        }
    }
    shown
}

fn number(entry: &str) -> Option<usize> {
    let entry = entry.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let unsigned = entry.strip_prefix(['+', '-']).unwrap_or(entry);
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let number: usize = unsigned[..end].parse().ok()?;
    (number == 0 || !entry.starts_with('-')).then_some(number)
}

/// The only GPU whose UUID begins so; what follows a whole UUID is not looked at.
fn by_prefix(entry: &str, uuids: &[String]) -> Option<usize> {
    let prefix: String = entry.strip_prefix("GPU-")?.chars().filter(|c| *c != '-').take(32).collect();
    let prefix = prefix.to_ascii_lowercase();
    let mut matching = (0..uuids.len()).filter(|gpu| !prefix.is_empty() && uuids[*gpu].starts_with(&prefix));
    matching.next().filter(|_| matching.next().is_none())
}

fn digits(uuid: &[u8; 16]) -> String {
    uuid.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four GPUs whose UUIDs begin `a0`, `a1`, `b0`, `c0`; CUDA numbers them in this order.
    fn shown(list: &str) -> Vec<usize> {
        let uuids = ["a0", "a1", "b0", "c0"].map(|start| format!("{start}{}", "1".repeat(30)));
        listed(list, &[0, 1, 2, 3], &uuids)
    }

    #[test]
    fn the_list_is_read_as_a_driver_reads_it() {
        let whole = "GPU-a1111111-1111-1111-1111-111111111111";
        let table: [(&str, &[usize]); 28] = [
            ("", &[]),
            ("0", &[0]),
            ("1,0", &[1, 0]),
            ("0,2,-1,1", &[0, 2]),
            ("-1", &[]),
            ("0,7,1", &[0]),
            ("0, 1", &[0, 1]),
            ("1 ,0", &[1, 0]),
            ("\t1", &[1]),
            ("01", &[1]),
            ("+1", &[1]),
            ("-0", &[0]),
            ("--1", &[]),
            ("0x1", &[0]),
            ("1.5,0", &[1, 0]),
            ("0,,1", &[0]),
            ("99999999999999999999", &[]),
            ("NoDevFiles", &[]),
            ("0,0", &[]),
            ("0,-1,0", &[0]),
            (whole, &[1]),
            ("GPU-A1,GPU-b", &[1, 2]),
            ("GPU-a", &[]),
            ("GPU-", &[]),
            ("gpu-a1", &[]),
            ("GPU-a1 ,GPU-b0", &[]),
            ("GPU-b,1", &[2]),
            ("0,GPU-b", &[0]),
        ];
        for (list, gpus) in table {
            assert_eq!(shown(list), gpus, "{list:?}");
        }
        assert_eq!(shown(&format!("{whole} junk,GPU-b")), [1, 2]);
    }
}
