//! [`Bcrypt`]: a password's hash as it stands in the file.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bcrypt::{HashParts, Version};

use super::error::Problem;

/// The costs that are accepted. One step more takes twice the time: 16 some four seconds of a processor, which a client gets for one request.
pub(super) const COSTS: RangeInclusive<u32> = 4..=16;

/// The cost of new hashes, and of the work for nobody where the file does not tell another.
pub(super) const COST: u32 = 12;

/// Bytes of a password that bcrypt takes; it cuts what is longer.
pub(super) const LONGEST: usize = 72;

/// Whether bcrypt takes all of a password. Others' implementations end it at a NUL.
pub(super) fn takes(password: &str) -> bool {
    password.len() <= LONGEST && !password.contains('\0')
}

/// A hash of a password: never printed but into the file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Bcrypt(Arc<str>);

impl Bcrypt {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let cost = match text.as_bytes() {
            [b'$', b'2', b'a' | b'b' | b'y', b'$', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'$', ..] => {
                u32::from(tens - b'0') * 10 + u32::from(ones - b'0')
            }
            _ => return Err(Problem::Hash),
        };
        text.parse::<HashParts>().map_err(|_| Problem::Hash)?;
        if COSTS.contains(&cost) { Ok(Self(text.into())) } else { Err(Problem::Cost) }
    }

    /// Hashes a password with a new salt: [`COST`] takes about a quarter of a second. `None` if the operating system gives no random bytes.
    pub(super) fn of(password: &str, cost: u32) -> Option<Self> {
        let parts = bcrypt::hash_with_result(password, cost).ok()?;
        // What every release of Apache and nginx reads too.
        Some(Self(parts.format_for_version(Version::TwoY).into()))
    }

    /// One that nobody knows a password for.
    pub(super) fn nobody(cost: u32) -> Self {
        let rest = "nobodynobodynobodynobeevHsfPJbjTEYFTbPXJxwUjo2EBSGYF6";
        Self(format!("$2y${cost:02}${rest}").into())
    }

    pub(super) fn cost(&self) -> u32 {
        // Two digits, as each constructor has seen to.
        self.0[4..6].parse().unwrap_or(COST)
    }

    /// Whether it is this password's. Takes as long whatever the password is; how long tells the cost.
    pub(super) fn is_of(&self, password: &str) -> bool {
        bcrypt::verify(password, &self.0).unwrap_or(false)
    }

    /// As it stands in the file.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bcrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Made by libxcrypt's `crypt`, from `correct horse battery`, `Grüße, 東京!` and 72 times `x`.
    pub(in super::super) const TWO_Y: &str = "$2y$05$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnEo.";
    pub(in super::super) const TWO_A: &str = "$2a$05$ABCDEFGHIJKLMNOPQRSTUuGDoORZNUW5YmX6joao5GcCago8hV1Oy";
    const FULL: &str = "$2y$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q";
    /// From `bells and whistles`.
    const TWO_B: &str = "$2b$04$0123456789abcdefghijku7BaY76opvM51Et0KYFKb4.EdObu2pLu";

    #[test]
    fn hashes_that_others_made_are_verified() {
        let full = "x".repeat(72);
        for (hash, password) in [(TWO_Y, "correct horse battery"), (TWO_A, "Grüße, 東京!"), (TWO_B, "bells and whistles"), (FULL, &full)]
        {
            let hash = Bcrypt::parse(hash).unwrap();
            assert!(hash.is_of(password), "{password}");
            assert!(!hash.is_of(&password[..password.len() - 1]), "{password}");
        }
    }

    #[test]
    fn a_new_hash_is_its_password_s_alone_and_salted() {
        let (one, other) = (Bcrypt::of("password", 4).unwrap(), Bcrypt::of("password", 4).unwrap());
        assert!(one.is_of("password") && !one.is_of("passwor") && !one.is_of(""));
        assert_ne!(one, other);
        assert_eq!(Bcrypt::parse(one.expose()), Ok(one.clone()));
        assert_eq!(one.cost(), 4);
    }

    #[test]
    fn what_nobody_has_looks_like_a_hash_of_any_cost() {
        for cost in COSTS {
            let hash = Bcrypt::nobody(cost);
            assert_eq!((Bcrypt::parse(hash.expose()), hash.cost()), (Ok(hash.clone()), cost));
        }
    }

    #[test]
    fn other_hashes_and_costs_are_refused() {
        for cost in ["03", "17", "31", "99"] {
            assert_eq!(Bcrypt::parse(&TWO_Y.replacen("05", cost, 1)), Err(Problem::Cost), "{cost}");
        }
        let others = [
            "",
            "plain",
            "$apr1$pkrM/Iib$Zzz8vZBVBWzDlmzsI/hSr.",
            "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "$2x$05$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnEo.",
            "$2y$+5$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnEo.",
            "$2y$05$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnEo",
            "$2y$05$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnEo. ",
            "$2y$05$abcdefghijklmnopqrstuuD3mHdCr44zlIZ.VZCaYRpfQhXMYnE!.",
        ];
        for other in others {
            assert_eq!(Bcrypt::parse(other), Err(Problem::Hash), "{other}");
        }
    }

    #[test]
    fn a_hash_is_not_printed() {
        assert_eq!(format!("{:?}", Bcrypt::parse(TWO_Y).unwrap()), "[redacted]");
    }
}
