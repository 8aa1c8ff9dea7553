//! The steps of a purchase and of a refund, and what follows from each answer of payments.
//!
//! The pivot is the capture. Before it, a refusal is made good by canceling the payment and giving the seats back; after it there is only forward.
//! An unknown outcome is never taken for a refusal: the same key is sent again, or the payment is asked about.

use super::booking::Failure;
use super::{Money, words};

/// Keys under which a capture is sent before the authorisation counts as lost. Each but the first follows an answer that nothing was captured.
const CAPTURE_ROUNDS_MAX: i32 = 3;

/// Keys under which any step is sent before somebody has to look: with the pauses between them about ten minutes.
const ROUNDS_MAX: i32 = 20;

words! {
    /// What a saga is for.
    Kind {
        /// Buys a booking.
        Purchase = "PURCHASE",
        /// Gives money back for a canceled one.
        Refund = "REFUND",
    }
}

words! {
    /// Where a saga stands.
    State {
        /// On its way.
        Running = "RUNNING",
        /// Asks again and again about something that somebody else has to end.
        Waiting = "WAITING",
        /// On its way back.
        Compensating = "COMPENSATING",
        /// Reached its end.
        Done = "DONE",
        /// Went all the way back.
        Failed = "FAILED",
        /// A person must look: a bug.
        Stuck = "STUCK",
    }
}

words! {
    /// What a saga does next.
    Step {
        /// T1: make the payment.
        CreateIntent = "CREATE_INTENT",
        /// T2: authorise it.
        Confirm = "CONFIRM",
        /// T2, sent and not answered: ask about it.
        AwaitAuthorization = "AWAIT_AUTHORIZATION",
        /// T3, the pivot: take the money.
        Capture = "CAPTURE",
        /// T3, sent and not answered: ask about it.
        AwaitCapture = "AWAIT_CAPTURE",
        /// T4: seats, tickets, confirmation.
        Ticket = "TICKET",
        /// K1: give the payment up.
        CancelIntent = "CANCEL_INTENT",
        /// K1, not possible yet: ask about it.
        AwaitCancellation = "AWAIT_CANCELLATION",
        /// K2: give the seats back.
        Release = "RELEASE",
        /// Give the money back.
        Refund = "REFUND",
        /// Sent and not done: ask about it.
        AwaitRefund = "AWAIT_REFUND",
        /// The cancellation is complete.
        Settle = "SETTLE",
    }
}

impl Step {
    /// Whether the saga may still give up for lack of time.
    pub fn is_before_pivot(self) -> bool {
        matches!(self, Self::CreateIntent | Self::Confirm | Self::AwaitAuthorization)
    }

    /// The state of a saga that is at this step, when it is `failing` or not.
    pub fn state(self, failing: bool) -> State {
        match self {
            Self::CreateIntent | Self::CancelIntent | Self::AwaitCancellation | Self::Release if failing => {
                State::Compensating
            }
            Self::AwaitAuthorization | Self::AwaitCapture | Self::AwaitRefund => State::Waiting,
            Self::CreateIntent
            | Self::Confirm
            | Self::Capture
            | Self::Ticket
            | Self::CancelIntent
            | Self::AwaitCancellation
            | Self::Release
            | Self::Refund
            | Self::Settle => State::Running,
        }
    }
}

/// What payments said of a payment intent or a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The intent waits to be confirmed.
    Unconfirmed,
    /// The card was declined.
    Declined {
        /// The issuer's reason.
        decline_code: String,
        /// A sentence for the cardholder.
        message: String,
    },
    /// The cardholder must act.
    ActionRequired,
    /// The acquirer has not answered yet.
    Processing,
    /// The money is set aside.
    Authorized,
    /// The money is taken, all of it.
    Captured,
    /// Money is taken, and it is not the price: that much.
    WronglyCaptured(Money),
    /// The payment is given up.
    Canceled,
    /// The refund is done.
    Refunded,
    /// The refund was not done, and the money is where it was.
    NotRefunded,
    /// The call was refused, definitely: nothing happened by it.
    Refused {
        /// `ErrorInfo.reason`.
        reason: String,
        /// For people.
        message: String,
    },
    /// Nobody knows what became of the call.
    Unknown,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// On to that step.
    Go(Step),
    /// The booking is going to fail: on to that step.
    Fail(Failure, Step),
    /// That step under a new key, after a pause.
    Resend(Step),
    /// The same again under the same key, after a pause.
    Again,
    /// Broken code somewhere: a person must look.
    Stuck(String),
}

/// What follows from `answer` at `step`, sent for the `round`th time under a new key, in a saga that is `failing` already or not.
pub fn next(step: Step, answer: Answer, round: i32, failing: bool) -> Next {
    if answer == Answer::Unknown {
        return Next::Again;
    }
    if let Answer::Refused { reason, message } = &answer
        && reason == "IDEMPOTENCY_KEY_REUSED"
    {
        return Next::Stuck(format!("{} was refused: {message}", step.word()));
    }
    if let Answer::WronglyCaptured(Money { currency, minor }) = &answer {
        return Next::Stuck(format!("{}: captured {minor} {currency}, which is not the price", step.word()));
    }
    let following = match step {
        Step::CreateIntent => created(answer, failing),
        Step::Confirm | Step::AwaitAuthorization => authorized(step, answer),
        Step::Capture | Step::AwaitCapture => captured(step, answer, round),
        Step::CancelIntent | Step::AwaitCancellation => canceled(step, answer),
        Step::Refund | Step::AwaitRefund => refunded(answer),
        Step::Ticket | Step::Release | Step::Settle => Next::Stuck(format!("{} asks nobody", step.word())),
    };
    match following {
        Next::Resend(Step::Confirm) if round >= ROUNDS_MAX => {
            Next::Fail(refused("the payment cannot be confirmed"), Step::CancelIntent)
        }
        Next::Resend(step) if round >= ROUNDS_MAX => {
            Next::Stuck(format!("{} was sent {round} times, and never done", step.word()))
        }
        Next::Go(_) | Next::Fail(..) | Next::Resend(_) | Next::Again | Next::Stuck(_) => following,
    }
}

fn created(answer: Answer, failing: bool) -> Next {
    match answer {
        Answer::Refused { message, .. } => Next::Fail(refused(&message), Step::Release),
        Answer::Unconfirmed
        | Answer::Declined { .. }
        | Answer::ActionRequired
        | Answer::Processing
        | Answer::Authorized
        | Answer::Captured
        | Answer::WronglyCaptured(_)
        | Answer::Canceled
        | Answer::Refunded
        | Answer::NotRefunded
        | Answer::Unknown => Next::Go(if failing { Step::CancelIntent } else { Step::Confirm }),
    }
}

fn authorized(step: Step, answer: Answer) -> Next {
    match answer {
        Answer::Authorized => Next::Go(Step::Capture),
        Answer::Captured => Next::Go(Step::Ticket),
        Answer::Processing | Answer::ActionRequired => Next::Go(Step::AwaitAuthorization),
        Answer::Declined { decline_code, message } => {
            Next::Fail(Failure::new(Failure::DECLINED, &decline_code, &message), Step::CancelIntent)
        }
        // Confirmed under an earlier key: asking says how far it came.
        Answer::Refused { reason, .. }
            if step == Step::Confirm
                && ["ALREADY_AUTHORIZED", "ALREADY_SUCCEEDED"].contains(&reason.as_str()) =>
        {
            Next::Go(Step::AwaitAuthorization)
        }
        Answer::Refused { message, .. } => Next::Fail(refused(&message), Step::CancelIntent),
        Answer::Canceled => Next::Fail(refused("the payment was canceled"), Step::Release),
        Answer::Unconfirmed if step == Step::AwaitAuthorization => Next::Resend(Step::Confirm),
        Answer::Unconfirmed
        | Answer::WronglyCaptured(_)
        | Answer::Refunded
        | Answer::NotRefunded
        | Answer::Unknown => Next::Again,
    }
}

fn captured(step: Step, answer: Answer, round: i32) -> Next {
    match answer {
        Answer::Captured => Next::Go(Step::Ticket),
        Answer::Processing => Next::Go(Step::AwaitCapture),
        Answer::Authorized if step == Step::Capture => Next::Go(Step::AwaitCapture),
        Answer::Authorized if round < CAPTURE_ROUNDS_MAX => Next::Resend(Step::Capture),
        Answer::Authorized => {
            Next::Fail(refused("the authorised amount cannot be captured"), Step::CancelIntent)
        }
        // Taken under an earlier key: asking says how much.
        Answer::Refused { reason, .. } if step == Step::Capture && reason == "ALREADY_SUCCEEDED" => {
            Next::Go(Step::AwaitCapture)
        }
        // Not taken for granted: canceling turns forward again when the money was taken after all.
        Answer::Refused { message, .. } => Next::Fail(refused(&message), Step::CancelIntent),
        Answer::Declined { decline_code, message } => {
            Next::Fail(Failure::new(Failure::DECLINED, &decline_code, &message), Step::CancelIntent)
        }
        Answer::Unconfirmed | Answer::ActionRequired => {
            Next::Fail(refused("the authorisation was lost"), Step::CancelIntent)
        }
        Answer::Canceled => Next::Fail(refused("the payment was canceled"), Step::Release),
        Answer::WronglyCaptured(_) | Answer::Refunded | Answer::NotRefunded | Answer::Unknown => Next::Again,
    }
}

fn canceled(step: Step, answer: Answer) -> Next {
    match answer {
        Answer::Canceled => Next::Go(Step::Release),
        Answer::Captured => Next::Go(Step::Ticket),
        Answer::Refused { reason, .. } => match reason.as_str() {
            "ALREADY_CANCELED" => Next::Go(Step::Release),
            // Too late, and asking says how much was taken; or not now, as with a call to the acquirer under way.
            _ => Next::Go(Step::AwaitCancellation),
        },
        Answer::Processing if step == Step::AwaitCancellation => Next::Again,
        Answer::Unconfirmed | Answer::Declined { .. } | Answer::ActionRequired | Answer::Authorized
            if step == Step::AwaitCancellation =>
        {
            Next::Resend(Step::CancelIntent)
        }
        Answer::Processing
        | Answer::Unconfirmed
        | Answer::Declined { .. }
        | Answer::ActionRequired
        | Answer::Authorized => Next::Go(Step::AwaitCancellation),
        Answer::WronglyCaptured(_) | Answer::Refunded | Answer::NotRefunded | Answer::Unknown => Next::Again,
    }
}

fn refunded(answer: Answer) -> Next {
    match answer {
        Answer::Refunded => Next::Go(Step::Settle),
        Answer::Processing => Next::Go(Step::AwaitRefund),
        Answer::NotRefunded => Next::Resend(Step::Refund),
        Answer::Refused { reason, message } => Next::Stuck(format!("refund refused: {reason}: {message}")),
        Answer::Unconfirmed
        | Answer::Declined { .. }
        | Answer::ActionRequired
        | Answer::Authorized
        | Answer::Captured
        | Answer::WronglyCaptured(_)
        | Answer::Canceled
        | Answer::Unknown => Next::Again,
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(Failure::REFUSED, "", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: &str) -> Answer {
        Answer::Refused { reason: reason.to_owned(), message: "no".to_owned() }
    }

    const CALLING: [Step; 9] = [
        Step::CreateIntent,
        Step::Confirm,
        Step::AwaitAuthorization,
        Step::Capture,
        Step::AwaitCapture,
        Step::CancelIntent,
        Step::AwaitCancellation,
        Step::Refund,
        Step::AwaitRefund,
    ];

    #[test]
    fn an_unknown_outcome_is_asked_for_again_under_the_same_key() {
        for step in CALLING {
            assert_eq!(next(step, Answer::Unknown, 1, false), Next::Again, "{step:?}");
        }
    }

    #[test]
    fn a_decline_cancels_the_payment_and_then_gives_the_seats_back() {
        let declined = Answer::Declined {
            decline_code: "insufficient_funds".to_owned(),
            message: "declined".to_owned(),
        };
        let failure = Failure::new(Failure::DECLINED, "insufficient_funds", "declined");
        assert_eq!(next(Step::Confirm, declined, 1, false), Next::Fail(failure, Step::CancelIntent));
        assert_eq!(next(Step::CancelIntent, Answer::Canceled, 1, true), Next::Go(Step::Release));
        assert_eq!(next(Step::CancelIntent, refusal("ALREADY_CANCELED"), 1, true), Next::Go(Step::Release));
    }

    #[test]
    fn money_that_was_taken_turns_a_cancellation_forward() {
        for step in [Step::CancelIntent, Step::AwaitCancellation] {
            assert_eq!(next(step, Answer::Captured, 1, true), Next::Go(Step::Ticket));
        }
    }

    #[test]
    fn a_payment_that_is_said_to_be_over_is_asked_how_much_was_taken() {
        for (step, asking) in [
            (Step::Confirm, Step::AwaitAuthorization),
            (Step::Capture, Step::AwaitCapture),
            (Step::CancelIntent, Step::AwaitCancellation),
        ] {
            assert_eq!(next(step, refusal("ALREADY_SUCCEEDED"), 1, false), Next::Go(asking), "{step:?}");
        }
    }

    #[test]
    fn money_that_is_not_the_price_is_for_a_person_to_look_at() {
        for step in CALLING {
            let taken = Answer::WronglyCaptured(Money { currency: "INR".to_owned(), minor: 1 });
            assert!(matches!(next(step, taken, 1, false), Next::Stuck(_)), "{step:?}");
        }
    }

    #[test]
    fn a_step_is_sent_again_only_so_often() {
        for (step, answer, again) in [
            (Step::AwaitRefund, Answer::NotRefunded, Step::Refund),
            (Step::AwaitCancellation, Answer::Authorized, Step::CancelIntent),
        ] {
            assert_eq!(next(step, answer.clone(), ROUNDS_MAX - 1, false), Next::Resend(again));
            assert!(matches!(next(step, answer, ROUNDS_MAX, false), Next::Stuck(_)), "{step:?}");
        }
        // Nothing was taken, so there is a way back.
        assert!(matches!(
            next(Step::AwaitAuthorization, Answer::Unconfirmed, ROUNDS_MAX, false),
            Next::Fail(_, Step::CancelIntent)
        ));
    }

    #[test]
    fn seats_are_given_back_only_when_no_money_can_be_taken_any_more() {
        let answers = [
            Answer::Unconfirmed,
            Answer::Declined { decline_code: String::new(), message: String::new() },
            Answer::ActionRequired,
            Answer::Processing,
            Answer::Authorized,
            Answer::Captured,
            Answer::Unknown,
            refusal("INVALID_STATE"),
        ];
        for step in [
            Step::Confirm,
            Step::AwaitAuthorization,
            Step::Capture,
            Step::CancelIntent,
            Step::AwaitCancellation,
        ] {
            for answer in answers.clone() {
                let next = next(step, answer.clone(), 1, true);
                assert!(
                    !matches!(next, Next::Go(Step::Release) | Next::Fail(_, Step::Release)),
                    "{step:?} {answer:?} {next:?}"
                );
            }
        }
    }

    #[test]
    fn a_capture_that_did_not_happen_is_sent_again_and_at_last_given_up() {
        assert_eq!(next(Step::AwaitCapture, Answer::Authorized, 1, false), Next::Resend(Step::Capture));
        assert!(matches!(
            next(Step::AwaitCapture, Answer::Authorized, CAPTURE_ROUNDS_MAX, false),
            Next::Fail(_, Step::CancelIntent)
        ));
    }

    #[test]
    fn an_authorisation_that_is_there_already_is_not_thrown_away() {
        let next = next(Step::Confirm, refusal("ALREADY_AUTHORIZED"), 2, false);
        assert_eq!(next, Next::Go(Step::AwaitAuthorization));
    }

    #[test]
    fn a_reused_key_is_a_bug_and_no_refusal() {
        for step in CALLING {
            assert!(
                matches!(next(step, refusal("IDEMPOTENCY_KEY_REUSED"), 1, false), Next::Stuck(_)),
                "{step:?}"
            );
        }
    }
}
