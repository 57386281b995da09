//! Whether one holder may go now. Pure, like the policy that it rests on: here are the cases in which the figures of NVML
//! are not needed, or not to be had.

use crate::gpu::GpuUuid;
use crate::line::policy::{Free, Grant, Request, Stage, Ticket, decide};

/// What a holder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Go(Grant),
    Wait,
    /// Nobody else is in the way, and still it does not fit; only a holder that does not wait is told so.
    NoFit,
}

/// The verdict on ticket `own`; `tickets` in order. `free` is `None` where NVML was not asked, or does not tell.
///
/// A holder that does not wait is let go on GPUs where nobody else is taking: its attempt tells best what is missing. A
/// holder that waits without NVML can find out by an attempt only, so it goes when it is the first on its GPUs.
pub fn verdict(tickets: &[Ticket], own: u64, free: Option<&Free>) -> Verdict {
    let Some(ticket) = tickets.iter().find(|ticket| ticket.number == own) else { return Verdict::Wait };
    if let Some(grant) = free.and_then(|free| decide(tickets, free).remove(&own)) {
        return Verdict::Go(grant);
    }
    if is_someone_taking(tickets, ticket) {
        return Verdict::Wait;
    }
    match (ticket.stage, &ticket.request, free) {
        (Stage::Now, Request::Any(_), Some(_)) => Verdict::NoFit,
        (Stage::Now, Request::These(_), _) => Verdict::Go(ticket.reserved()),
        (Stage::Waiting | Stage::Growing, Request::These(_), None) if is_first(tickets, ticket) => {
            Verdict::Go(ticket.reserved())
        }
        _ => Verdict::Wait,
    }
}

/// Whether another holder takes memory on the GPUs of `own`, or is about to before it.
pub fn is_someone_taking(tickets: &[Ticket], own: &Ticket) -> bool {
    let takes_on = |ticket: &Ticket, gpu: GpuUuid| {
        let is_next = ticket.stage == Stage::Now && ticket.number < own.number;
        !ticket.claim_on(gpu).is_zero() || is_next && ticket.request.gpus().any(|wanted| wanted == gpu)
    };
    let others = tickets.iter().filter(|ticket| ticket.number != own.number);
    others.into_iter().any(|ticket| own.request.gpus().any(|gpu| takes_on(ticket, gpu)))
}

fn is_first(tickets: &[Ticket], own: &Ticket) -> bool {
    let mut ahead = tickets.iter().filter(|ticket| ticket.number < own.number && ticket.is_in_line());
    !ahead.any(|ticket| ticket.request.wants_any_of(&own.request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::policy::Stage::{Growing, Now, Waiting};
    use crate::line::policy::tests::{admitted, any_of, free, gpu, share, size, these, ticket};

    fn go(claims: &[(u8, u64)]) -> Verdict {
        Verdict::Go(claims.iter().map(|&(number, bytes)| (gpu(number), size(bytes))).collect())
    }

    #[test]
    fn who_takes_now_needs_no_figures_where_nobody_else_takes() {
        let line = [ticket(1, Waiting, these(&[(0, 8)])), admitted(2, &[(1, 5)]), ticket(3, Now, these(&[(0, 5)]))];
        assert_eq!(verdict(&line, 3, None), go(&[(0, 5)]));
        assert_eq!(verdict(&line, 3, Some(&free(&[4, 9]))), go(&[(0, 5)]), "its attempt tells what is missing");
        let line = [ticket(3, Now, share(0))];
        assert_eq!(verdict(&line, 3, None), go(&[(0, u64::MAX)]));
    }

    #[test]
    fn who_takes_now_lets_those_finish_who_take_already() {
        for first in [admitted(1, &[(0, 5)]), ticket(1, Now, these(&[(0, 5)]))] {
            let line = [first, ticket(2, Now, these(&[(0, 6)]))];
            assert_eq!(verdict(&line, 2, None), Verdict::Wait);
            assert_eq!(verdict(&line, 2, Some(&free(&[10]))), Verdict::Wait);
            assert_eq!(verdict(&line, 2, Some(&free(&[11]))), go(&[(0, 6)]), "beside them");
        }
    }

    #[test]
    fn any_is_chosen_by_the_figures() {
        let line = [ticket(1, Now, any_of(&[5], &[0, 1]))];
        assert_eq!(verdict(&line, 1, None), Verdict::Wait);
        assert_eq!(verdict(&line, 1, Some(&free(&[4, 9]))), go(&[(1, 5)]));
        assert_eq!(verdict(&line, 1, Some(&free(&[4, 4]))), Verdict::NoFit);
    }

    #[test]
    fn without_figures_the_first_in_line_tries() {
        for stage in [Waiting, Growing] {
            let line = [ticket(1, stage, these(&[(0, 5)])), ticket(2, stage, these(&[(0, 1)]))];
            assert_eq!([1, 2].map(|own| verdict(&line, own, None)), [go(&[(0, 5)]), Verdict::Wait]);
            assert_eq!([1, 2].map(|own| verdict(&line, own, Some(&free(&[0])))), [Verdict::Wait, Verdict::Wait]);
        }
    }
}
