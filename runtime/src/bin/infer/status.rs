//! The exit statuses of `infer`, which a guest's own cannot be mistaken for.

/// How `infer` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It worked.
    Success,
    /// The guest's own status.
    Guest(u8),
    /// The guest ended with a status that stands for something else here.
    Reserved,
    /// The guest's time was up.
    Timeout,
    /// `infer` itself failed.
    Failure,
    /// The guest trapped or used up its fuel.
    Trap,
}

/// The table, for the help.
pub(crate) const TABLE: &str = "\
Exit status:
  0    success
  1    and all others up to 255 that are not listed here: the guest's own (a component has 0 and 1,
       unless its language uses `exit-with-code`)
  2    wrong usage of infer (the guest did not start)
  123  the guest ended with a status that is listed here; stderr says which
  124  the guest was stopped at its --timeout
  125  infer itself failed: no such file, a model that cannot be opened, ...
  134  the guest trapped, or used up its --fuel
  141  the reader of standard output went away";

/// Wrong usage: clap's own.
const USAGE: u8 = 2;
const RESERVED: u8 = 123;
const TIMEOUT: u8 = 124;
const FAILURE: u8 = 125;
const TRAP: u8 = 134;

/// The reader of standard output went away: as if by SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 141;

impl Status {
    /// The status of a guest that ended by itself.
    pub(crate) fn of_guest(status: u32) -> Status {
        match u8::try_from(status) {
            Ok(0) => Status::Success,
            Ok(USAGE | RESERVED | TIMEOUT | FAILURE | TRAP | BROKEN_PIPE) | Err(_) => {
                Status::Reserved
            }
            Ok(status) => Status::Guest(status),
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Status::Success => 0,
            Status::Guest(status) => status,
            Status::Reserved => RESERVED,
            Status::Timeout => TIMEOUT,
            Status::Failure => FAILURE,
            Status::Trap => TRAP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_end_as_infer_does() {
        for status in 0..=300u32 {
            let code = Status::of_guest(status).code();
            let kept = u32::from(code) == status;
            assert!(kept || code == RESERVED, "{status} became {code}");
            assert!(
                ![USAGE, TIMEOUT, FAILURE, TRAP, BROKEN_PIPE].contains(&code),
                "{status} became {code}"
            );
        }
    }
}
