//! The one thread that runs argon2, so that a thousand clients at once cost one core at most.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use argon2::password_hash::{PasswordHash, SaltString};
use argon2::{Argon2, PasswordHasher, PasswordVerifier};

use super::QUEUE_MAX;

/// A password to verify; `T` names the waiting connection.
#[derive(Debug)]
pub struct Question<T> {
    /// Who waits.
    pub waiting: T,
    /// The account.
    pub name: String,
    /// Its hash, PHC form.
    pub phc: String,
    /// What was presented.
    pub password: Vec<u8>,
}

/// Handle of the auth thread.
#[derive(Debug)]
pub struct AuthThread<T> {
    questions: SyncSender<Question<T>>,
}

impl<T: Send + 'static> AuthThread<T> {
    /// Starts the thread; `answer` is called there with each question and whether it holds. The
    /// thread ends when the handle goes.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn(answer: impl Fn(Question<T>, bool) + Send + 'static) -> io::Result<Self> {
        let (questions, waiting) = sync_channel::<Question<T>>(QUEUE_MAX);
        std::thread::Builder::new().name("auth".to_owned()).spawn(move || {
            while let Ok(question) = waiting.recv() {
                let holds = verify_password(&question.phc, &question.password);
                answer(question, holds);
            }
        })?;
        Ok(Self { questions })
    }

    /// Asks; a full queue gives the question back.
    ///
    /// # Errors
    /// The queue is full or the thread is gone.
    pub fn ask(&self, question: Question<T>) -> Result<(), Box<Question<T>>> {
        self.questions.try_send(question).map_err(|err| match err {
            TrySendError::Full(question) | TrySendError::Disconnected(question) => {
                Box::new(question)
            }
        })
    }
}

/// Whether a password belongs to a hash; a hash that is none belongs to no password.
#[must_use]
pub fn verify_password(phc: &str, password: &[u8]) -> bool {
    PasswordHash::new(phc)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
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
