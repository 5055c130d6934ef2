//! The one thread that runs argon2, so that a thousand clients at once cost one core at most, and
//! that one only as far as the loop leaves it.
//!
//! # Invariants
//! - Once the handle is gone nothing is answered any more: after a store failure everything begins
//!   anew, the numbers of connections too, and an answer from before could let in somebody else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::password::Verifier;
use super::{Proof, QUEUE_MAX};

/// Clients that are in go before clients that want in.
const NICENESS: i32 = 5;

/// A password to verify.
#[derive(Debug)]
pub struct Question {
    /// Names the question in the answer.
    pub proof: Proof,
    /// The account.
    pub name: String,
    /// Its hash, PHC form.
    pub phc: String,
    /// What was presented.
    pub password: Vec<u8>,
}

/// Handle of the auth thread. Dropping it stops the thread after the question in work.
#[derive(Debug)]
pub struct AuthThread {
    /// `None` only while it is dropped.
    questions: Option<SyncSender<Question>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AuthThread {
    /// Starts the thread; `answer` is called there with each question and whether it holds.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn(answer: impl Fn(Question, bool) + Send + 'static) -> io::Result<Self> {
        let (questions, waiting) = sync_channel::<Question>(QUEUE_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("auth".to_owned()).spawn(move || {
            // A container may forbid it; then logins share with the loop on equal terms.
            if let Err(error) = rustix::process::nice(NICENESS) {
                tracing::debug!("the auth thread keeps its priority: {error}");
            }
            let mut verifier = Verifier::default();
            while let Some(question) = next(&waiting, &mut verifier)
                && !stop.load(Ordering::Relaxed)
            {
                let holds = verifier.holds(&question.phc, &question.password);
                answer(question, holds);
            }
        })?;
        Ok(Self { questions: Some(questions), stopping, thread: Some(thread) })
    }

    /// Asks; a full queue gives the question back.
    ///
    /// # Errors
    /// The queue is full or the thread is gone.
    pub fn ask(&self, question: Question) -> Result<(), Box<Question>> {
        let Some(questions) = &self.questions else { return Err(Box::new(question)) };
        questions.try_send(question).map_err(|err| match err {
            TrySendError::Full(question) | TrySendError::Disconnected(question) => {
                Box::new(question)
            }
        })
    }
}

/// The next question; while there is none the verifier holds no memory. `None` at the end.
fn next(waiting: &Receiver<Question>, verifier: &mut Verifier) -> Option<Question> {
    match waiting.try_recv() {
        Ok(question) => Some(question),
        Err(TryRecvError::Disconnected) => None,
        Err(TryRecvError::Empty) => {
            verifier.rest();
            waiting.recv().ok()
        }
    }
}

impl Drop for AuthThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.questions = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the auth thread had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::auth::password::hash_password;

    #[test]
    fn nothing_is_answered_once_the_handle_is_gone() {
        let answered = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&answered);
        let thread = AuthThread::spawn(move |question, holds| {
            told.lock().unwrap().push((question.name, holds));
        });
        let thread = thread.unwrap();
        let phc = hash_password(b"meadow", [7; 16]).unwrap();
        for n in 0..100 {
            let (name, phc) = (format!("person-{n}"), phc.clone());
            let (proof, password) = (Proof([n; 32]), b"meadow".to_vec());
            thread.ask(Question { proof, name, phc, password }).unwrap();
        }
        while answered.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        drop(thread);
        let at_the_end = answered.lock().unwrap().clone();
        assert!(at_the_end.len() < 100, "what waits is dropped");
        assert!(at_the_end.iter().all(|(_, holds)| *holds));
        assert_eq!(Arc::strong_count(&answered), 1, "the thread is gone, and its words with it");
    }
}
