//! Argon2 of passwords that people chose.

use argon2::password_hash::{Output, PasswordHash, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version};

/// Memory that a hash may ask for, in bytes: the commands's own ask for 19 MiB.
const MEMORY_BYTES_MAX: usize = 256 << 20;

/// What is asked of the system at least. glibc gives pieces of more than 32 MiB back as soon as
/// they are free; a smaller one it may keep for good, for each login anew. What is not needed of
/// it is never touched, so it costs nothing.
const MEMORY_BYTES_MIN: usize = 33 << 20;

/// Verifies passwords; keeps its memory from one to the next.
#[derive(Default)]
pub(super) struct Verifier {
    memory: Vec<Block>,
}

impl Verifier {
    /// Whether a password belongs to a hash; a hash that is none belongs to no password.
    pub(super) fn holds(&mut self, phc: &str, password: &[u8]) -> bool {
        let Some(Parts { argon2, hash }) = parts(phc) else { return false };
        let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else { return false };
        let blocks = argon2.params().block_count();
        if self.memory.capacity() < blocks {
            self.memory = Vec::with_capacity(blocks.max(MEMORY_BYTES_MIN / Block::SIZE));
        }
        self.memory.resize(blocks, Block::default());
        let mut salt_bytes = [0; 64];
        let mut output = [0; Output::MAX_LENGTH];
        let output = &mut output[..expected.len()];
        let computed = salt.decode_b64(&mut salt_bytes).is_ok_and(|salt| {
            let memory = self.memory.as_mut_slice();
            argon2.hash_password_into_with_memory(password, salt, output, memory).is_ok()
        });
        // Outputs are compared in constant time.
        computed && Output::new(output).is_ok_and(|output| output == expected)
    }

    /// Gives the memory back.
    pub(super) fn rest(&mut self) {
        self.memory = Vec::new();
    }
}

struct Parts<'a> {
    argon2: Argon2<'static>,
    hash: PasswordHash<'a>,
}

fn parts(phc: &str) -> Option<Parts<'_>> {
    let hash = PasswordHash::new(phc).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm).ok()?;
    let version = match hash.version {
        Some(version) => Version::try_from(version).ok()?,
        None => Version::default(),
    };
    let params = Params::try_from(&hash).ok()?;
    let affordable = params.block_count() <= MEMORY_BYTES_MAX / Block::SIZE;
    let argon2 = Argon2::new(algorithm, version, params);
    (affordable && hash.salt.is_some() && hash.hash.is_some()).then_some(Parts { argon2, hash })
}

/// Whether a text is a hash in PHC form that a password can be verified by.
#[must_use]
pub fn is_hash(phc: &str) -> bool {
    phc.starts_with("$argon2id$") && parts(phc).is_some()
}

/// Hash of a password in PHC form (argon2id, the crate's recommended cost).
///
/// # Errors
/// The password is longer than argon2 takes.
pub fn hash_password(password: &[u8], salt: [u8; 16]) -> Result<String, String> {
    let salt = SaltString::encode_b64(&salt).map_err(|err| err.to_string())?;
    let hash = Argon2::default().hash_password(password, &salt);
    hash.map(|hash| hash.to_string()).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_holds_and_no_other() {
        let phc = hash_password(b"meadow", [7; 16]).unwrap();
        assert!(is_hash(&phc));
        let mut verifier = Verifier::default();
        assert!(verifier.holds(&phc, b"meadow"));
        assert!(!verifier.holds(&phc, b"meadoW"));
        assert!(verifier.holds(&phc, b"meadow"), "the memory is used again");
        let other = hash_password(b"meadow", [8; 16]).unwrap();
        assert!(verifier.holds(&other, b"meadow"));
        verifier.rest();
        assert!(verifier.holds(&phc, b"meadow"));
    }

    #[test]
    fn hashes_of_other_programs_hold() {
        // What `argon2 somesalt -id -t 2 -m 16 -p 1` of the reference implementation prints.
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$\
                   CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Verifier::default().holds(phc, b"password"));
    }

    #[test]
    fn what_is_no_hash_belongs_to_no_password() {
        let good = hash_password(b"meadow", [7; 16]).unwrap();
        let cut = &good[..good.len() - 44];
        let greedy = good.replace("m=19456", "m=1048576");
        let texts = ["", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ", cut, &greedy];
        for text in texts {
            assert!(!is_hash(text), "{text}");
            assert!(!Verifier::default().holds(text, b"meadow"), "{text}");
        }
    }
}
