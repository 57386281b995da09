//! A bar of cells shared out among parts.

/// How many of `width` cells each part gets, in proportion. The cells add up to `width`, and no part that is not zero
/// vanishes as long as there are cells enough: a small balloon on a large GPU must be seen.
pub fn cells(parts: &[u64], width: usize) -> Vec<usize> {
    let sum: u128 = parts.iter().map(|&part| u128::from(part)).sum();
    if sum == 0 {
        return vec![0; parts.len()];
    }
    // Rounding the running sums keeps the total exact.
    let edge = |until: u128| usize::try_from((until * width as u128 + sum / 2) / sum).unwrap_or(width);
    let mut before = 0_u128;
    let mut cells: Vec<usize> = Vec::with_capacity(parts.len());
    for &part in parts {
        let after = before + u128::from(part);
        cells.push(edge(after) - edge(before));
        before = after;
    }
    while let Some(vanished) = (0..parts.len()).find(|&index| parts[index] > 0 && cells[index] == 0) {
        let Some(widest) = (0..parts.len()).filter(|&index| cells[index] > 1).max_by_key(|&index| cells[index]) else {
            break;
        };
        cells[widest] -= 1;
        cells[vanished] += 1;
    }
    cells
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cells_are_shared_in_proportion() {
        assert_eq!(cells(&[1, 1], 10), [5, 5]);
        assert_eq!(cells(&[1, 2, 1], 80), [20, 40, 20]);
        assert_eq!(cells(&[0, 0], 10), [0, 0]);
        assert_eq!(cells(&[u64::MAX, u64::MAX, u64::MAX], 9), [3, 3, 3]);
    }

    #[test]
    fn a_small_part_is_seen() {
        assert_eq!(cells(&[1, 0, 1_000_000], 40), [1, 0, 39]);
        assert_eq!(cells(&[1, 1, 1], 2).iter().sum::<usize>(), 2);
    }

    proptest! {
        #[test]
        fn every_cell_is_given_and_no_part_vanishes(parts in prop::collection::vec(any::<u64>(), 1..8), width in 8_usize..300) {
            let cells = cells(&parts, width);
            let sum: u128 = parts.iter().map(|&part| u128::from(part)).sum();
            prop_assert_eq!(cells.iter().sum::<usize>(), if sum == 0 { 0 } else { width });
            for (part, cells) in parts.iter().zip(cells) {
                prop_assert_eq!(*part > 0, cells > 0);
            }
        }
    }
}
