//! The posting rules: which lines each event writes. Every transaction has a debit and a credit, and they are equal.

use super::money::Currency;

/// What an account is for. The merchant's accounts exist once for each merchant, all of them once for each currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// What the acquirer owes us of captured money.
    AcquirerReceivable,
    /// Captured, not yet available to the merchant.
    MerchantPending,
    /// Refunds on the way to cardholders.
    RefundsPayable,
    /// What we keep.
    FeesIncome,
}

/// Debit or credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Debit.
    Debit,
    /// Credit.
    Credit,
}

impl Side {
    /// The letter that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debit => "D",
            Self::Credit => "C",
        }
    }
}

impl Code {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AcquirerReceivable => "acquirer_receivable",
            Self::MerchantPending => "merchant_pending",
            Self::RefundsPayable => "refunds_payable",
            Self::FeesIncome => "fees_income",
        }
    }

    /// The side that makes the balance grow.
    pub fn normal_side(self) -> Side {
        match self {
            Self::AcquirerReceivable => Side::Debit,
            Self::MerchantPending | Self::RefundsPayable | Self::FeesIncome => Side::Credit,
        }
    }

    /// Whether each merchant has its own.
    pub fn is_of_merchant(self) -> bool {
        match self {
            Self::MerchantPending => true,
            Self::AcquirerReceivable | Self::RefundsPayable | Self::FeesIncome => false,
        }
    }

    /// Whether the balance may never be below zero.
    pub fn is_floored(self) -> bool {
        match self {
            Self::RefundsPayable => true,
            Self::AcquirerReceivable | Self::MerchantPending | Self::FeesIncome => false,
        }
    }

    /// Whether the balance is stored. The others are touched by every payment, and a stored balance would make all of them wait in line.
    pub fn is_scarce(self) -> bool {
        match self {
            Self::MerchantPending | Self::RefundsPayable => true,
            Self::AcquirerReceivable | Self::FeesIncome => false,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posting {
    /// Money was set aside.
    Authorized {
        /// How much, in minor units.
        amount: i64,
    },
    /// It was let go.
    Voided,
    /// It was taken; the rest of what was set aside is let go.
    Captured {
        /// How much, in minor units.
        amount: i64,
        /// What we keep of it, 0 to `amount`.
        fee: i64,
    },
    /// A refund was promised.
    RefundCreated {
        /// How much, in minor units.
        amount: i64,
    },
    /// It was paid.
    RefundSucceeded {
        /// How much, in minor units.
        amount: i64,
    },
    /// It was not.
    RefundFailed {
        /// How much, in minor units.
        amount: i64,
    },
}

/// Whether a transaction reserves, moves, or lets a reservation go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reserves.
    Pending,
    /// Moves.
    Posted,
    /// Lets go.
    Void,
}

impl Phase {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Posted => "POSTED",
            Self::Void => "VOID",
        }
    }
}

/// One line of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// On which account.
    pub code: Code,
    /// On which side.
    pub side: Side,
    /// How much, in minor units, at least 1.
    pub amount: i64,
}

impl Posting {
    /// The kind that is stored: one source has at most one transaction of each.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Authorized { .. } => "authorized",
            Self::Voided => "voided",
            Self::Captured { .. } => "captured",
            Self::RefundCreated { .. } => "refund_created",
            Self::RefundSucceeded { .. } => "refund_succeeded",
            Self::RefundFailed { .. } => "refund_failed",
        }
    }

    /// Whether it reserves, moves or lets go.
    pub fn phase(self) -> Phase {
        match self {
            Self::Authorized { .. } => Phase::Pending,
            Self::Voided => Phase::Void,
            Self::Captured { .. }
            | Self::RefundCreated { .. }
            | Self::RefundSucceeded { .. }
            | Self::RefundFailed { .. } => Phase::Posted,
        }
    }

    /// Its lines. Lines of zero are left out.
    pub fn lines(self) -> Vec<Line> {
        use Code::{AcquirerReceivable, FeesIncome, MerchantPending, RefundsPayable};
        let debit = |code, amount| Line { code, side: Side::Debit, amount };
        let credit = |code, amount| Line { code, side: Side::Credit, amount };
        let lines = match self {
            Self::Authorized { amount } => {
                vec![debit(AcquirerReceivable, amount), credit(MerchantPending, amount)]
            }
            Self::Voided => Vec::new(),
            Self::Captured { amount, fee } => vec![
                debit(AcquirerReceivable, amount),
                credit(MerchantPending, amount.saturating_sub(fee)),
                credit(FeesIncome, fee),
            ],
            // Nothing is settled to the merchant yet, so refunds are taken from what waits for settlement, and go back there.
            Self::RefundCreated { amount } => {
                vec![debit(MerchantPending, amount), credit(RefundsPayable, amount)]
            }
            Self::RefundSucceeded { amount } => {
                vec![debit(RefundsPayable, amount), credit(AcquirerReceivable, amount)]
            }
            Self::RefundFailed { amount } => {
                vec![debit(RefundsPayable, amount), credit(MerchantPending, amount)]
            }
        };
        lines.into_iter().filter(|line| line.amount > 0).collect()
    }
}

/// The account that a line is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountKey {
    /// What it is for.
    pub code: Code,
    /// Whose it is; `None` for the gateway's own.
    pub merchant: Option<String>,
    /// In which currency.
    pub currency: Currency,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_posting_balances() {
        let postings = [
            Posting::Authorized { amount: 7 },
            Posting::Voided,
            Posting::Captured { amount: 7, fee: 0 },
            Posting::Captured { amount: 7, fee: 2 },
            Posting::Captured { amount: 7, fee: 7 },
            Posting::RefundCreated { amount: 7 },
            Posting::RefundSucceeded { amount: 7 },
            Posting::RefundFailed { amount: 7 },
        ];
        for posting in postings {
            let sum = |side| {
                posting.lines().iter().filter(|line| line.side == side).map(|line| line.amount).sum::<i64>()
            };
            assert_eq!(sum(Side::Debit), sum(Side::Credit), "{posting:?}");
            assert_eq!(sum(Side::Debit) > 0, posting.phase() != Phase::Void, "{posting:?}");
        }
    }
}
