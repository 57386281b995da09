//! Every way to name a GPU, and every way to get it wrong.

use super::super::visible::tests::under;
use super::*;
use crate::units::ReserveSpec;

fn select(variable: Option<&str>, list: &str) -> Result<Selection, SelectError> {
    let selectors: Result<Vec<GpuSelector>, _> =
        list.split(',').filter(|item| !item.is_empty()).map(str::parse).collect();
    under(variable).select(&selectors?)
}

/// The ordinals chosen and what the job would see of them.
fn chosen(variable: Option<&str>, list: &str) -> (Vec<u32>, String) {
    match select(variable, list) {
        Ok(Selection::These(gpus)) => (gpus.iter().map(|gpu| gpu.ordinal).collect(), Visible::variable(&gpus)),
        other => panic!("{list}: {other:?}"),
    }
}

#[test]
fn every_way_to_name_a_gpu() {
    let b0 = "GPU-b0111111-1111-1111-1111-111111111111";
    let table: [(Option<&str>, &str, &[u32], &str); 21] = [
        (None, "", &[0], "0"),
        (Some("2,0"), "", &[0, 1], "2,0"),
        (Some("GPU-b"), "", &[0], b0),
        (None, "0", &[0], "0"),
        (None, "3,1", &[3, 1], "3,1"),
        (None, " 1 , 2 ", &[1, 2], "1,2"),
        (None, "0-3", &[0, 1, 2, 3], "0,1,2,3"),
        (None, "2-2", &[2], "2"),
        (None, "1 - 2,0", &[1, 2, 0], "1,2,0"),
        (None, "all", &[0, 1, 2, 3], "0,1,2,3"),
        (Some("3,1"), "ALL", &[0, 1], "3,1"),
        (Some("3,1"), "1", &[1], "1"),
        (None, "GPU-b", &[2], b0),
        (None, "gpu-B011", &[2], b0),
        (None, b0, &[2], b0),
        (Some("3,2"), "GPU-b", &[1], b0),
        (None, "17:00.0", &[0], "0"),
        (None, "0000:b1:00.0", &[2], "2"),
        (None, "00000000:31:00.0,0001:17:00.0", &[1, 3], "1,3"),
        (Some("MIG-d1"), "mig-d1", &[0], "MIG-d1111111-1111-1111-1111-111111111111"),
        (Some("MIG-d1"), "0", &[0], "MIG-d1111111-1111-1111-1111-111111111111"),
    ];
    for (variable, list, ordinals, seen) in table {
        assert_eq!(chosen(variable, list), (ordinals.to_vec(), seen.to_owned()), "{variable:?} {list}");
    }
}

#[test]
fn any_leaves_the_choice_to_the_memory() {
    match select(Some("3,1"), "any:1") {
        Ok(Selection::Any { count: 1, among }) => assert_eq!(among, under(Some("3,1")).gpus),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_refused_says_why_and_what_is_visible() {
    let table = [
        (None, "4", "GPU 4 is not visible; visible are 0,1,2,3"),
        (None, "2-9", "GPU 4 in `2-9` is not visible"),
        (None, "0-4294967295", "GPU 4 in `0-4294967295` is not visible"),
        (Some("3,2"), "2", "visible are 0,1 (CUDA_VISIBLE_DEVICES=3,2); nvidia-smi's GPU 2 is `1` here"),
        (Some("3,2"), "7", "visible are 0,1 (CUDA_VISIBLE_DEVICES=3,2)"),
        (None, "3-0", "write `0-3`"),
        (None, "0,1,0", "GPU 0 is chosen twice, by `0` and by `0`"),
        (None, "0-2,GPU-a1", "GPU 1 is chosen twice, by `0-2` and by `GPU-a1`"),
        (None, "all,17:00.0", "GPU 0 is chosen twice, by `all` and by `17:00.0`"),
        (None, "GPU-a", "GPU-a1111111-1111-1111-1111-111111111111; write more of it"),
        (None, "GPU-f", "`GPU-f` is no GPU of this machine"),
        (Some("3,2"), "GPU-a1", "`GPU-a1` is hidden; visible are 0,1 (CUDA_VISIBLE_DEVICES=3,2)"),
        (None, "MIG-d0", "`MIG-d0` is hidden"),
        (None, "99:00.0", "`99:00.0` is no GPU of this machine"),
        (Some("MIG-d0,MIG-d1"), "1:17:00.0", "fits more than one GPU: MIG-d0"),
        (None, "any:5", "`any:5` asks for more GPUs than are visible"),
        (None, "any:1,0", "`any:1` chooses by itself"),
        (None, "any:0", "`any:0` is not a GPU"),
        (None, "any", "`any` is not a GPU"),
        (None, "-1", "`-1` is not a GPU"),
        (None, "+1", "`+1` is not a GPU"),
        (None, "1.5", "`1.5` is not a GPU"),
        (None, "GPU-", "`GPU-` is not a GPU"),
        (None, "GPU-xyz", "`GPU-xyz` is not a GPU"),
        (None, "４", "`４` is not a GPU"),
        (None, "99999999999", "`99999999999` is not a GPU"),
        (None, "100:17:0.0.0", "is not a GPU"),
        (None, " , ", "`` is not a GPU"),
        (Some(""), "0", "no GPU is visible: CUDA_VISIBLE_DEVICES is ``, which hides all"),
        (Some("-1"), "", "no GPU is visible: `-1` in CUDA_VISIBLE_DEVICES=-1 is no GPU"),
        (Some("1,1"), "0", "no GPU is visible: CUDA_VISIBLE_DEVICES=1,1 names `1` twice"),
    ];
    for (variable, list, says) in table {
        let refused = select(variable, list).unwrap_err().to_string();
        assert!(refused.contains(says), "{variable:?} {list}: {refused}");
    }
    let none = VisibleDevices::new(None).apply(&[]).select(&[]).unwrap_err();
    assert_eq!(none.to_string(), "no GPU is visible: this machine has none");
}

#[test]
fn a_list_of_sizes_names_gpus_the_same_ways() {
    let visibility = under(None);
    let sizes = |list: &str| list.parse::<ReserveSpec>().and_then(|spec| spec.per_gpu(&visibility.gpus[..2]));
    let plain = sizes("1GB,2GB").unwrap();
    for list in ["1=2GB,0=1GB", "GPU-a1=2GB,GPU-a0=1GB", "17:00.0=1GB,1=2GB"] {
        assert_eq!(sizes(list).unwrap(), plain, "{list}");
    }
    for (list, says) in [
        ("GPU-a=1GB", "fits more than one of the chosen GPUs; write one of 0,1"),
        ("0=1GB,2=1GB", "is none of the chosen GPUs (0,1)"),
        ("0-1=1GB", "is none of the chosen GPUs (0,1)"),
        ("0=1GB,17:00.0=2GB,1=1GB", "two sizes for GPU 0"),
    ] {
        let refused = sizes(list).unwrap_err().to_string();
        assert!(refused.contains(says), "{list}: {refused}");
    }
}
