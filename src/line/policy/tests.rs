use super::*;

mod simulation;

pub fn gpu(number: u8) -> GpuUuid {
    GpuUuid([number; 16])
}

pub fn size(bytes: u64) -> ByteSize {
    ByteSize::new(bytes)
}

pub fn free(sizes: &[u64]) -> Free {
    (0..).map(gpu).zip(sizes.iter().copied().map(size)).collect()
}

pub fn these(wants: &[(u8, u64)]) -> Request {
    Request::These(wants.iter().map(|&(number, bytes)| (gpu(number), Want::Bytes(size(bytes)))).collect())
}

pub fn share(number: u8) -> Request {
    Request::These(vec![(gpu(number), Want::Share(size(1)))])
}

pub fn any_of(wants: &[u64], among: &[u8]) -> Request {
    let wants: Vec<Want> = wants.iter().map(|&bytes| Want::Bytes(size(bytes))).collect();
    Request::Any(among.iter().map(|&number| (gpu(number), wants.clone())).collect())
}

pub fn ticket(number: u64, stage: Stage, request: Request) -> Ticket {
    Wish { stage, request, margin: ByteSize::ZERO }.numbered(number)
}

pub fn admitted(number: u64, claims: &[(u8, u64)]) -> Ticket {
    let claims: Vec<_> = claims.iter().map(|&(number, bytes)| (gpu(number), size(bytes))).collect();
    Ticket { claims, ..ticket(number, Stage::Admitted, Request::These(Vec::new())) }
}

/// What is granted, with GPUs and bytes as small numbers.
fn granted(tickets: &[Ticket], sizes: &[u64]) -> Vec<(u64, Vec<(u8, u64)>)> {
    let grants = decide(tickets, &free(sizes));
    let small = |grant: Grant| grant.iter().map(|(gpu, size)| (gpu.0[0], size.bytes())).collect();
    grants.into_iter().map(|(number, grant)| (number, small(grant))).collect()
}

use Stage::{Growing, Now, Waiting};

#[test]
fn all_or_none() {
    let both = [ticket(1, Waiting, these(&[(0, 6), (1, 6)]))];
    assert_eq!(granted(&both, &[10, 5]), []);
    assert_eq!(granted(&both, &[6, 6]), [(1, vec![(0, 6), (1, 6)])]);
    assert_eq!(granted(&both, &[10]), [], "nothing is granted on a GPU of which nothing is known");
}

#[test]
fn first_come_first_served() {
    let line = [ticket(1, Waiting, these(&[(0, 8)])), ticket(2, Waiting, these(&[(0, 3)]))];
    assert_eq!(granted(&line, &[5]), [], "the small one would delay the large one");
    assert_eq!(granted(&line, &[10]), [(1, vec![(0, 8)])]);
    assert_eq!(granted(&line, &[11]), [(1, vec![(0, 8)]), (2, vec![(0, 3)])]);
}

#[test]
fn one_passes_where_it_cannot_delay() {
    let large = ticket(1, Waiting, these(&[(0, 8), (1, 8)]));
    let on = |number, bytes| [large.clone(), ticket(2, Waiting, these(&[(number, bytes)]))];
    assert_eq!(granted(&on(2, 5), &[8, 0, 5]), [(2, vec![(2, 5)])], "on a GPU the first does not want");
    assert_eq!(granted(&on(0, 4), &[12, 0]), [(2, vec![(0, 4)])], "beside what the first needs");
    assert_eq!(granted(&on(0, 5), &[12, 0]), [], "into what the first needs");
    assert_eq!(granted(&on(1, 1), &[12, 7]), [], "into what the first is collecting");
}

#[test]
fn claims_count_as_taken() {
    let line = [admitted(1, &[(0, 6)]), ticket(2, Waiting, these(&[(0, 5)]))];
    assert_eq!(granted(&line, &[10]), []);
    assert_eq!(granted(&line, &[11]), [(2, vec![(0, 5)])]);
    let behind = [ticket(1, Waiting, these(&[(0, 5)])), admitted(2, &[(0, 6)])];
    assert_eq!(granted(&behind, &[10]), [], "also those behind");
}

#[test]
fn who_takes_now_passes_those_who_wait_and_no_others() {
    let line = [
        ticket(1, Waiting, these(&[(0, 8)])),
        ticket(2, Now, these(&[(0, 5)])),
        ticket(3, Now, these(&[(0, 1)])),
        ticket(4, Waiting, these(&[(0, 1)])),
    ];
    assert_eq!(granted(&line, &[7]), [(2, vec![(0, 5)]), (3, vec![(0, 1)])]);
    assert_eq!(granted(&line, &[4]), [], "the second taker stays behind the first");
}

#[test]
fn any_takes_the_most_free_and_lower_ordinals_among_equals() {
    let one = |among: &[u8]| [ticket(1, Waiting, any_of(&[4], among))];
    assert_eq!(granted(&one(&[0, 1, 2]), &[5, 9, 9]), [(1, vec![(1, 4)])]);
    assert_eq!(granted(&one(&[0]), &[5, 9, 9]), [(1, vec![(0, 4)])]);
    let two = [ticket(1, Waiting, any_of(&[4, 4], &[0, 1, 2]))];
    assert_eq!(granted(&two, &[5, 3, 9]), [(1, vec![(2, 4), (0, 4)])]);
    assert_eq!(granted(&two, &[5, 3, 3]), []);
    let unequal = [ticket(1, Waiting, any_of(&[2, 8], &[0, 1]))];
    assert_eq!(granted(&unequal, &[9, 3]), [(1, vec![(1, 2), (0, 8)])], "each gets what it can take");
}

#[test]
fn two_that_take_any_one_take_two() {
    let pair = [ticket(1, Now, any_of(&[4], &[0, 1])), ticket(2, Now, any_of(&[4], &[0, 1]))];
    assert_eq!(granted(&pair, &[9, 9]), [(1, vec![(0, 4)]), (2, vec![(1, 4)])]);
    let second = [admitted(1, &[(0, 4)]), ticket(2, Now, any_of(&[4], &[0, 1]))];
    assert_eq!(granted(&second, &[9, 8]), [(2, vec![(1, 4)])]);
}

#[test]
fn any_keeps_all_its_choices_from_those_behind() {
    let line = [ticket(1, Waiting, any_of(&[8], &[0, 1])), ticket(2, Waiting, these(&[(1, 3)]))];
    assert_eq!(granted(&line, &[2, 5]), []);
    assert_eq!(granted(&line, &[8, 3]), [(1, vec![(0, 8)]), (2, vec![(1, 3)])]);
}

#[test]
fn a_share_goes_alone() {
    let pair = [ticket(1, Now, share(0)), ticket(2, Now, share(0))];
    assert_eq!(granted(&pair, &[10]), [(1, vec![(0, u64::MAX)])]);
    let second = [admitted(1, &[(0, 5)]), ticket(2, Now, share(0))];
    assert_eq!(granted(&second, &[10]), [], "it could not tell what is free");
    let unresolved = [admitted(1, &[(0, u64::MAX)]), ticket(2, Now, these(&[(0, 1)]))];
    assert_eq!(granted(&unresolved, &[10]), [], "nobody can tell what it leaves");
    let behind = [ticket(1, Waiting, these(&[(0, 12)])), ticket(2, Waiting, share(0))];
    assert_eq!(granted(&behind, &[10]), [], "it may be all there is");
}

#[test]
fn growing_takes_pieces_in_order() {
    let pair = [ticket(1, Growing, these(&[(0, 8), (1, 8)])), ticket(2, Growing, these(&[(0, 8), (1, 8)]))];
    assert_eq!(granted(&pair, &[5, 0]), [(1, vec![(0, 5)])], "all that comes free goes to the first");
    assert_eq!(granted(&pair, &[9, 1]), [(1, vec![(0, 8), (1, 1)]), (2, vec![(0, 1)])]);
    let part = vec![(gpu(0), Want::Bytes(size(4))), (gpu(1), Want::Share(size(1)))];
    let part = [admitted(1, &[(1, 2)]), ticket(2, Growing, Request::These(part)), ticket(3, Waiting, these(&[(1, 3)]))];
    assert_eq!(granted(&part, &[4, 9]), [(2, vec![(0, 4)])], "what is still to come is kept");
    let behind = [ticket(1, Waiting, these(&[(0, 8)])), ticket(2, Growing, these(&[(0, 8), (1, 8)]))];
    assert_eq!(granted(&behind, &[7, 3]), [(2, vec![(1, 3)])]);
}

#[test]
fn the_place_counts_those_ahead_on_the_same_gpus() {
    let line = [
        ticket(3, Waiting, these(&[(0, 1)])),
        ticket(5, Now, these(&[(0, 1)])),
        ticket(7, Growing, these(&[(1, 1)])),
        ticket(9, Waiting, any_of(&[1], &[0, 1])),
    ];
    assert_eq!([3, 7, 9, 4].map(|number| place(&line, number)), [Some(1), Some(1), Some(3), None]);
}

#[test]
fn what_was_claimed_while_free_was_read_counts() {
    let earlier = [admitted(1, &[(0, 6)]), admitted(2, &[(0, 3), (1, 1)]), ticket(3, Waiting, these(&[(0, 1)]))];
    let later = [admitted(2, &[(0, 1), (1, 2)]), ticket(3, Waiting, these(&[(0, 1)])), admitted(4, &[(0, 1)])];
    let worst = at_worst(&earlier, &later);
    let claims = |on| worst.iter().map(|ticket| ticket.claim_on(gpu(on)).bytes()).collect::<Vec<_>>();
    assert_eq!((claims(0), claims(1)), (vec![6, 3, 0, 1], vec![0, 2, 0, 0]));
}

#[test]
fn beside_others_there_is_room_for_contexts_of_unknown_cost() {
    let with_margin = |number, stage, bytes| Ticket { margin: size(2), ..ticket(number, stage, these(&[(0, bytes)])) };
    assert_eq!(granted(&[with_margin(1, Waiting, 8)], &[8]), [(1, vec![(0, 10)])], "alone, an attempt may find out");
    let claimed = |free| granted(&[admitted(1, &[(0, 10)]), with_margin(2, Waiting, 8)], &[free]);
    assert_eq!((claimed(19), claimed(20)), (vec![], vec![(2, vec![(0, 10)])]));
    let blocked = Ticket { margin: size(2), ..ticket(1, Waiting, these(&[(0, 8), (1, 1)])) };
    let behind = |free| granted(&[blocked.clone(), with_margin(2, Waiting, 8)], &[free, 0]);
    assert_eq!((behind(19), behind(20)), (vec![], vec![(2, vec![(0, 10)])]));
    let grows = |free| granted(&[blocked.clone(), with_margin(2, Growing, 8)], &[free, 0]);
    assert_eq!((grows(12), grows(13)), (vec![], vec![(2, vec![(0, 3)])]));
    assert_eq!(granted(&[with_margin(1, Growing, 8)], &[1]), [(1, vec![(0, 1)])]);
}

#[test]
fn one_that_stands_still_is_passed_but_not_with_a_piece() {
    let still = ticket(1, Stage::Still, these(&[(0, 8)]));
    let behind = |stage, free| granted(&[still.clone(), ticket(2, stage, these(&[(0, 5)]))], &[free]);
    assert_eq!(behind(Waiting, 5), [(2, vec![(0, 5)])]);
    assert_eq!(behind(Growing, 5), [(2, vec![(0, 5)])], "all that it lacks");
    assert_eq!(behind(Growing, 4), []);
    assert_eq!(behind(Growing, 9), [(2, vec![(0, 5)])]);
}

#[test]
fn one_behind_owes_what_it_has_and_one_ahead_lacks() {
    let first = ticket(1, Waiting, these(&[(0, 8), (1, 8)]));
    let line = [first, ticket(2, Growing, these(&[(1, 4)])), admitted(3, &[(0, 1)])];
    let owed = |number, held: &[u64], sizes: &[u64]| owed(&line, number, &free(held), &free(sizes));
    assert_eq!(owed(2, &[5, 0], &[9, 0]), [], "there is enough beside the claim");
    assert_eq!(owed(2, &[5, 0], &[8, 0]), [gpu(0)]);
    assert_eq!(owed(2, &[0, 0], &[8, 0]), [], "it has nothing");
    assert_eq!(owed(1, &[5, 0], &[8, 0]), [], "nobody is ahead");
}
