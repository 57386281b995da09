//! Tables of every spelling with its edges, and properties over all sizes.

use proptest::prelude::*;

use super::*;

const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;
const GRANULARITY: ByteSize = ByteSize::new(2 * MB);

fn size(bytes: u64) -> ByteSize {
    ByteSize::new(bytes)
}

fn bytes(bytes: u64) -> Amount {
    Amount::Bytes(size(bytes))
}

fn share(text: &str) -> Share {
    match text.parse() {
        Ok(Amount::ShareOfFree(share) | Amount::ShareOfTotal(share)) => share,
        other => panic!("{text} is no share: {other:?}"),
    }
}

fn memory(free: u64, total: u64, held: u64) -> Memory {
    Memory { free: size(free), total: size(total), held: size(held) }
}

#[test]
fn every_spelling_of_the_contract() {
    let table = [
        ("2000", bytes(2000 * MB)),
        ("1", bytes(MB)),
        ("007", bytes(7 * MB)),
        ("2GB", bytes(2 * GB)),
        ("2.5GB", bytes(5 * GB / 2)),
        (".5GB", bytes(GB / 2)),
        ("2048MB", bytes(2 * GB)),
        ("2G", bytes(2 * GB)),
        ("2g", bytes(2 * GB)),
        ("2GiB", bytes(2 * GB)),
        ("2 gIb", bytes(2 * GB)),
        ("512m", bytes(512 * MB)),
        ("1TB", bytes(1024 * GB)),
        ("1t", bytes(1024 * GB)),
        ("4 KB", bytes(4096)),
        ("7B", bytes(7)),
        (" 2 GB ", bytes(2 * GB)),
        ("0.1GB", bytes(107_374_183)),
        ("18446744073709551615B", bytes(u64::MAX)),
        ("0.50", Amount::ShareOfFree(share("50%"))),
        (".5", Amount::ShareOfFree(share("50%"))),
        ("0.7", Amount::ShareOfFree(share("70%"))),
        ("1.0", Amount::ShareOfFree(share("100%"))),
        ("1.000", Amount::ShareOfFree(share("100%"))),
        ("33.3 %", Amount::ShareOfFree(share("0.333"))),
        ("80%total", Amount::ShareOfTotal(share("80%"))),
        ("80 % Total", Amount::ShareOfTotal(share("0.8"))),
        ("all", Amount::All),
        ("ALL", Amount::All),
        ("all-2GB", Amount::AllBut(size(2 * GB))),
        ("all - 2 GB", Amount::AllBut(size(2 * GB))),
        ("all-500", Amount::AllBut(size(500 * MB))),
        ("Auto", Amount::Auto),
    ];
    for (text, meant) in table {
        assert_eq!(text.parse(), Ok(meant), "{text}");
        assert_eq!(meant.to_string().parse(), Ok(meant), "{text} shown");
    }
}

#[test]
fn what_is_refused_names_the_value_and_a_spelling_that_works() {
    let table = [
        ("2.5", "`2.5GB`"),
        ("1.5", "`1.5%`"),
        ("1.0000000001", "`1.0000000001%`"),
        ("0", "`1`"),
        ("0GB", "`1GB`"),
        ("0%", "`1%`"),
        ("0.0", "`0.01`"),
        ("0.00000000001", "`0.01`"),
        ("0%total", "`1%total`"),
        ("-1", "`1`"),
        ("-2 gb", "`2 GB`"),
        ("-inf", "`2GB`"),
        ("inf", "`2GB`"),
        ("nan", "`2GB`"),
        ("1e3", "`1000`"),
        ("1e99", "`2GB`"),
        ("2 X", "`2GB`"),
        ("2GBs", "`2GB`"),
        ("2 megs", "`2MB`"),
        ("+2GB", "`2GB`"),
        ("5.", "`5GB`"),
        (".", "`2GB`"),
        ("1.2.3GB", "`2GB`"),
        ("1_000", "`1GB`"),
        ("0x10", "`2GB`"),
        ("50%%", "`50%`"),
        ("50 percent", "`50%`"),
        ("50%tot", "`50%total`"),
        ("120%", "`100%`"),
        ("100.1%", "`100%`"),
        ("101%total", "`100%total`"),
        ("１２GB", "`2GB`"),
        ("٣", "`2GB`"),
        ("all-", "`all-2GB`"),
        ("all-0", "`all`"),
        ("all-30%", "`70%`"),
        ("all+2GB", "`2GB`"),
        ("all but 2", "`2GB`"),
        ("18446744073709551616B", "`all`"),
        ("17592186044416", "`all`"),
        ("16777216TB", "`all`"),
        ("99999999999999999999999999999999999999999GB", "`all`"),
    ];
    for (text, way_out) in table {
        let refused = text.parse::<Amount>().unwrap_err().to_string();
        assert!(refused.contains(&format!("`{text}`")), "{text}: {refused}");
        assert!(refused.contains(way_out), "{text}: {refused}");
        let way_out = way_out.trim_matches('`');
        assert!(way_out.parse::<Amount>().is_ok(), "{text}: {way_out}");
    }
    assert_eq!(" ".parse::<Amount>(), Err(SpecError::Empty));
}

#[test]
fn a_chunk_size_is_a_size_and_nothing_else() {
    assert_eq!("100MB".parse(), Ok(size(100 * MB)));
    assert_eq!("100".parse(), Ok(size(100 * MB)));
    for text in ["50%", "0.5", "all", "auto"] {
        let refused = text.parse::<ByteSize>().unwrap_err().to_string();
        assert!(refused.contains(text) && refused.contains("100MB"), "{refused}");
    }
    assert!(matches!("0".parse::<ByteSize>(), Err(SpecError::Zero { .. })));
}

#[test]
fn sizes_are_shown_for_people_and_exactly() {
    let table = [
        (0, "0 B", "0B"),
        (1023, "1023 B", "1023B"),
        (1024, "1.0 KB", "1KB"),
        (100 * MB, "100.0 MB", "100MB"),
        (2 * GB, "2.0 GB", "2GB"),
        (2 * GB + 512 * MB, "2.5 GB", "2560MB"),
        (GB - 1, "1.0 GB", "1073741823B"),
        (81_559 * MB, "79.6 GB", "81559MB"),
        (u64::MAX, "16777216.0 TB", "18446744073709551615B"),
    ];
    for (bytes, shown, exact) in table {
        assert_eq!(size(bytes).to_string(), shown);
        assert_eq!(size(bytes).exact(), exact);
    }
    assert_eq!(format!("[{:>9}]", size(2 * GB)), "[   2.0 GB]");
    assert_eq!(serde_json::to_string(&size(7)).unwrap(), "7");
}

#[test]
fn an_amount_is_resolved_on_its_own_gpu() {
    let memory = memory(60 * GB, 80 * GB, 4 * GB);
    let table = [
        ("1", 2 * MB),
        ("3", 4 * MB),
        ("2GB", 2 * GB),
        ("80GB", 80 * GB),
        ("50%", 32 * GB),
        ("100%", 64 * GB),
        ("0.0000001%", 2 * MB),
        ("50%total", 40 * GB),
        ("100%total", 80 * GB),
        ("all", 64 * GB),
        ("all-4GB", 60 * GB),
        ("all-1B", 64 * GB - 2 * MB),
    ];
    for (text, target) in table {
        let amount: Amount = text.parse().unwrap();
        assert_eq!(amount.resolve(&memory, None, GRANULARITY), Ok(size(target)), "{text}");
    }
}

#[test]
fn auto_takes_less_of_a_busy_gpu() {
    let memory = memory(90 * GB, 100 * GB, 10 * GB);
    let table =
        [(Some(0), 90), (Some(19), 90), (Some(20), 60), (Some(49), 60), (Some(50), 30), (Some(100), 30), (None, 30)];
    for (utilization, percent) in table {
        assert_eq!(Amount::Auto.resolve(&memory, utilization, GRANULARITY), Ok(size(percent * GB)), "{utilization:?}");
    }
}

#[test]
fn more_than_the_gpu_has_is_refused_and_a_full_gpu_is_a_shortage() {
    let full = memory(MB, 80 * GB, 0);
    let resolve = |text: &str| text.parse::<Amount>().unwrap().resolve(&full, None, GRANULARITY).unwrap_err();
    for text in ["81GB", "999999", "all-80GB"] {
        let refused = resolve(text);
        assert!(!refused.is_shortage(), "{refused}");
        assert!(refused.to_string().contains("81920MB"), "{refused}");
    }
    for text in ["50%", "all", "all-2GB", "auto"] {
        let refused = resolve(text);
        assert!(refused.is_shortage(), "{refused}");
        assert!(refused.to_string().contains("1.0 MB"), "{refused}");
    }
}

#[test]
fn a_change_counts_from_what_is_held() {
    let memory = memory(20 * GB, 80 * GB, 4 * GB);
    let table = [
        ("2GB", 2 * GB),
        ("50%", 12 * GB),
        ("+1GB", 5 * GB),
        ("-1GB", 3 * GB),
        ("- 1 GB", 3 * GB),
        ("+50%", 14 * GB),
        ("+all", 24 * GB),
        ("+all-4GB", 20 * GB),
        ("-1%total", 4 * GB - 820 * MB),
    ];
    for (text, target) in table {
        let change: Change = text.parse().unwrap();
        assert_eq!(change.resolve(&memory, None, GRANULARITY), Ok(size(target)), "{text}");
        assert_eq!(change.to_string().parse(), Ok(change), "{text} shown");
    }
    for (text, way_out) in [("-4GB", "release"), ("-100GB", "release"), ("+77GB", "+77824MB")] {
        let change: Change = text.parse().unwrap();
        let refused = change.resolve(&memory, None, GRANULARITY).unwrap_err().to_string();
        assert!(refused.contains(text), "{refused}");
        assert!(refused.contains(way_out), "{refused}");
    }
}

#[test]
fn a_change_that_says_nothing_is_refused() {
    for text in ["+auto", "-auto", "-50%", "-all", "+0", "--1GB", "+", "-"] {
        assert!(text.parse::<Change>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn every_size_survives_being_written(bytes in 1u64..) {
        prop_assert_eq!(size(bytes).exact().parse(), Ok(size(bytes)));
    }

    #[test]
    fn a_shown_size_is_near_the_real_one(bytes in 1u64..=1 << 60) {
        let near: ByteSize = size(bytes).to_string().parse().unwrap();
        let off = near.bytes().abs_diff(bytes);
        prop_assert!(off <= bytes / 16 || off <= 64, "{} is {off} off", size(bytes));
    }

    #[test]
    fn every_share_survives_being_written(billionths in 1u64..=u64::from(Share::WHOLE)) {
        let share = Share::from_billionths(billionths).unwrap();
        prop_assert_eq!(share.to_string().parse(), Ok(Amount::ShareOfFree(share)));
    }

    #[test]
    fn no_text_breaks_the_parser(text in "\\PC*", near in "[-+al0-9.]{0,30} ?[kmgtb%e]{0,3}") {
        for text in [text, near] {
            if let Err(refused) = text.parse::<Amount>() {
                prop_assert!(!refused.to_string().is_empty());
            }
            if let Ok(spec) = text.parse::<ResizeSpec>() {
                prop_assert_eq!(spec.to_string().parse(), Ok(spec));
            }
        }
    }

    #[test]
    fn a_target_is_whole_granules_and_never_above_what_it_may_be(
        free in 0u64..=u64::MAX / 4,
        held in 0u64..=u64::MAX / 4,
        other in 0u64..=u64::MAX / 4,
        asked in 1u64..,
        billionths in 1u64..=u64::from(Share::WHOLE),
        granularity in 0u64..=1 << 30,
    ) {
        let memory = memory(free, free + held + other, held);
        let granularity = size(granularity);
        let share = Share::from_billionths(billionths).unwrap();
        for amount in [
            bytes(asked),
            Amount::ShareOfFree(share),
            Amount::ShareOfTotal(share),
            Amount::All,
            Amount::AllBut(size(asked)),
            Amount::Auto,
        ] {
            let Ok(target) = amount.resolve(&memory, None, granularity) else { continue };
            prop_assert!(!target.is_zero());
            prop_assert_eq!(target.round_down(granularity), target);
            match amount {
                Amount::Bytes(asked) => prop_assert!(asked <= target && target <= memory.total),
                Amount::ShareOfTotal(_) => prop_assert!(target <= memory.total),
                _ => prop_assert!(target <= memory.available()),
            }
            for change in [Change::Grow(amount), Change::Shrink(amount)] {
                if let Ok(target) = change.resolve(&memory, None, granularity) {
                    prop_assert!(!target.is_zero() && target <= memory.total);
                }
            }
        }
    }
}
