//! The variable as CUDA reads it: each row was seen on a machine with two GPUs, or follows from NVIDIA's guide.

use super::*;

/// Four GPUs and two MIG instances of the last. The UUIDs begin `a0`, `a1`, `b0`, `c0`; `d0` and `d1`.
pub(in crate::gpu) fn machine() -> Vec<Known> {
    let known = |first: u8, pci_bus_id: &str, kind| {
        let mut uuid = [0x11; 16];
        uuid[0] = first;
        Known { uuid: GpuUuid(uuid), pci_bus_id: pci_bus_id.to_owned(), kind }
    };
    vec![
        known(0xa0, "00000000:17:00.0", Kind::Gpu),
        known(0xa1, "0000:31:00.0", Kind::Gpu),
        known(0xb0, "00000000:B1:00.0", Kind::Gpu),
        known(0xc0, "00000001:17:00.0", Kind::Gpu),
        known(0xd0, "00000001:17:00.0", Kind::Instance),
        known(0xd1, "00000001:17:00.0", Kind::Instance),
    ]
}

pub(in crate::gpu) fn under(variable: Option<&str>) -> Visibility {
    VisibleDevices::new(variable).apply(&machine())
}

fn starts(gpus: &[Visible]) -> String {
    let starts: Vec<String> = gpus.iter().map(|gpu| format!("{:02x}", gpu.known.uuid.0[0])).collect();
    starts.join(" ")
}

#[test]
fn without_the_variable_every_gpu_is_visible() {
    let visibility = under(None);
    assert_eq!(starts(&visibility.gpus), "a0 a1 b0 c0");
    assert_eq!(visibility.hidden.len(), 2);
    assert_eq!(Visible::variable(&visibility.gpus), "0,1,2,3");
}

#[test]
fn the_variable_is_read_as_cuda_reads_it() {
    let whole = |start: &str| format!("{start}111111-1111-1111-1111-111111111111");
    let a1 = whole("GPU-a1");
    let table = [
        ("", ""),
        (" ", ""),
        ("0", "a0"),
        ("1,0", "a1 a0"),
        ("0,2,-1,1", "a0 b0"),
        ("-1", ""),
        ("-2,0", ""),
        ("0,7,1", "a0"),
        ("4", ""),
        ("0, 1", "a0 a1"),
        ("1 ,0", "a1 a0"),
        ("\t1", "a1"),
        ("01", "a1"),
        ("+1", "a1"),
        ("-0", "a0"),
        ("--1", ""),
        ("0x1", "a0"),
        ("1gpu,0", "a1 a0"),
        ("1.5,0", "a1 a0"),
        ("0-1", "a0"),
        ("0;1", "a0"),
        ("0,,1", "a0"),
        (",0", ""),
        ("0,", "a0"),
        ("99999999999", ""),
        ("all", ""),
        ("NoDevFiles", ""),
        ("0,0", ""),
        ("1,0,1", ""),
        ("0,0,-1", ""),
        ("0,-1,0", "a0"),
        (&a1, "a1"),
        ("GPU-a1", "a1"),
        ("GPU-A1,GPU-b", "a1 b0"),
        ("GPU-a", ""),
        ("GPU-", ""),
        ("GPU", ""),
        ("gpu-a1", ""),
        (" GPU-a1", ""),
        ("GPU-a1 ,GPU-b0", ""),
        ("GPU-a1zz", ""),
        ("GPU--a1-1", "a1"),
        (&format!("{a1} junk,GPU-b"), "a1 b0"),
        (&format!("{a1}0"), "a1"),
        (&a1[4..], ""),
        ("GPU-b,GPU-b", ""),
        ("GPU-b,GPU-f,GPU-c", "b0"),
        ("GPU-b,1", "b0"),
        ("0,GPU-b", "a0"),
        ("MIG-d0", "d0"),
        ("MIG-d,MIG-d1", ""),
        (&format!("{},GPU-b", whole("MIG-d1")), "d1 b0"),
    ];
    for (list, visible) in table {
        assert_eq!(starts(&under(Some(list)).gpus), visible, "{list:?}");
    }
}

#[test]
fn what_cut_the_list_is_kept() {
    assert_eq!(under(Some("0,7,1")).cut, Some(Cut::Invalid("7".to_owned())));
    assert_eq!(under(Some("1,1")).cut, Some(Cut::Twice("1".to_owned())));
    assert_eq!(under(Some("1,0")).cut, None);
}

#[test]
fn the_job_gets_indices_where_the_caller_used_indices() {
    let table = [("2,0", "2,0"), ("0,7,1", "0"), ("GPU-b", "GPU-b0111111-1111-1111-1111-111111111111")];
    for (list, handed_on) in table {
        assert_eq!(Visible::variable(&under(Some(list)).gpus), handed_on);
    }
    let mixed = [under(None).gpus[0].clone(), under(Some("MIG-d0")).gpus[0].clone()];
    assert_eq!(
        Visible::variable(&mixed),
        "GPU-a0111111-1111-1111-1111-111111111111,MIG-d0111111-1111-1111-1111-111111111111"
    );
}

#[test]
fn a_job_under_the_variable_sees_what_was_chosen() {
    for list in [None, Some("2,0"), Some("GPU-c,GPU-a1"), Some("MIG-d1")] {
        let visibility = under(list);
        let inside = under(Some(&Visible::variable(&visibility.gpus)));
        assert_eq!(starts(&inside.gpus), starts(&visibility.gpus), "{list:?}");
    }
}

#[test]
fn without_nvml_the_spelling_comes_from_the_variable() {
    let all = machine();
    let seen = [all[2].clone(), all[0].clone()];
    for (list, handed_on) in [(None, "0,1"), (Some("2,0,9"), "2,0"), (Some(" 2, 0"), "2,0")] {
        let visibility = VisibleDevices::new(list).enumerated(&seen);
        assert_eq!(starts(&visibility.gpus), "b0 a0");
        assert_eq!(Visible::variable(&visibility.gpus), handed_on);
    }
}
