//! Password hashing: argon2id (RFC 9106) on threads of its own, and nowhere else.
//!
//! A hash costs a core for tens of milliseconds and 19 MiB, so it is the one thing that a stranger could buy from us at our expense. Hence: as
//! many threads as cores are granted to hashing, each with one memory buffer that it keeps; a short queue before them, and a refusal when the queue is
//! full or slow. A job belongs to the thread that runs it, not to the request that asked: a caller who disconnects cannot start more hashes than
//! there are threads, and what waits for nobody is dropped unhashed.

mod queue;

use std::{fmt, sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt},
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use mesh::call::Call;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use self::queue::{Job, Queue, Work};
use crate::{config::PasswordConfig, domain::Password};

/// Length of a salt in bytes.
const SALT_LENGTH: usize = 16;

/// Length of a hash in bytes.
const OUTPUT_LENGTH: usize = 32;

/// Most memory that a stored hash may ask for, in KiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;

/// Most passes that a stored hash may ask for.
const ITERATIONS_MAX: u32 = 10;

/// Most lanes that a stored hash may ask for.
const PARALLELISM_MAX: u32 = 16;

/// Jobs that may wait for each thread.
const WAITING_PER_THREAD_MAX: usize = 8;

/// How long a job may wait for a thread.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// How long an operator's job may wait.
const PATIENT_WAIT_MAX: Duration = Duration::from_mins(1);

/// An argon2id hash in PHC string format. Only a hash that [`Passwords`] has computed is one, so nothing else is ever stored.
#[derive(Clone)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// The PHC string, to be stored.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

/// A hash as the database gave it back: fit to compare with, not to be stored.
#[derive(Clone)]
pub struct StoredHash(String);

impl StoredHash {
    /// Takes what was stored.
    pub(crate) fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string, to find its row by.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredHash([redacted])")
    }
}

/// What came of comparing a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another password.
    Wrong,
    /// The password.
    Right {
        /// The hash was made with other parameters than the present ones.
        outdated: bool,
    },
}

/// Why a password was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// More callers are waiting than can be served soon.
    #[error("too many passwords are being checked; try again shortly")]
    QueueFull,
    /// The stored hash is none, or asks for more than we are willing to spend.
    #[error("a stored password hash cannot be used")]
    Unusable,
}

/// Hashes and compares passwords. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Passwords {
    queue: Arc<Handle>,
    params: Params,
    /// What a password is compared with when there is no account: nobody knows a password for it, and it costs what a real one costs.
    dummy: StoredHash,
    wait_max: Duration,
}

impl Passwords {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When the parameters are outside of what argon2 allows, or a thread cannot be started.
    pub fn start(config: &PasswordConfig) -> anyhow::Result<Self> {
        let passwords = Self::with_queue(config)?;
        for number in 0..config.threads {
            let (queue, params) = (Arc::clone(&passwords.queue.0), passwords.params.clone());
            std::thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                let mut memory = vec![Block::new(); params.block_count()];
                queue.work(&mut memory);
            })?;
        }
        Ok(passwords)
    }

    /// As these, but a caller waits up to a minute for a thread: for an operator, who would only come back.
    #[must_use]
    pub(crate) fn patient(&self) -> Self {
        Self { wait_max: PATIENT_WAIT_MAX, ..self.clone() }
    }

    fn with_queue(config: &PasswordConfig) -> anyhow::Result<Self> {
        let params =
            Params::new(config.memory_kib, config.iterations, config.parallelism, Some(OUTPUT_LENGTH))
                .map_err(|error| anyhow::anyhow!("the password hashing parameters: {error}"))?;
        let dummy =
            StoredHash(phc(&params, &random::<SALT_LENGTH>(), &random::<OUTPUT_LENGTH>())?.to_string());
        let queue = Arc::new(Handle(Arc::new(Queue::new(config.threads * WAITING_PER_THREAD_MAX))));
        Ok(Self { queue, params, dummy, wait_max: WAIT_MAX })
    }

    /// Hashes a password with a new salt.
    ///
    /// # Errors
    ///
    /// [`HashError::QueueFull`].
    pub async fn make(&self, password: Password) -> Result<PasswordHash, HashError> {
        let salt = random::<SALT_LENGTH>();
        let output = self.compute(password, self.params.clone(), salt.to_vec()).await?;
        phc(&self.params, &salt, &output)
            .map(|phc| PasswordHash(phc.to_string()))
            .map_err(|_| HashError::Unusable)
    }

    /// Compares a password with a stored hash; `None` for an account that does not exist, which takes as long.
    ///
    /// # Errors
    ///
    /// [`HashError::QueueFull`]; [`HashError::Unusable`] when the stored hash is.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<&StoredHash>,
    ) -> Result<Verdict, HashError> {
        let stored = Phc::new(stored.unwrap_or(&self.dummy).as_str()).map_err(|_| HashError::Unusable)?;
        let params = acceptable_params(&stored)?;
        let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else {
            return Err(HashError::Unusable);
        };
        let output = self.compute(password, params.clone(), salt.to_vec()).await?;
        if verify_slices_are_equal(&output, expected.as_bytes()).is_ok() {
            let outdated = ParamsString::try_from(&params).ok() != ParamsString::try_from(&self.params).ok();
            Ok(Verdict::Right { outdated })
        } else {
            Ok(Verdict::Wrong)
        }
    }

    /// Computes a hash on one of the threads.
    async fn compute(
        &self,
        password: Password,
        params: Params,
        salt: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, HashError> {
        let wait = Call::current().map_or(self.wait_max, |call| call.remaining().min(self.wait_max));
        let (started, has_started) = oneshot::channel();
        let (reply, output) = oneshot::channel();
        self.queue
            .0
            .push(Job { work: Work { password, params, salt }, started, reply })
            .map_err(|_| HashError::QueueFull)?;
        match tokio::time::timeout(wait, has_started).await {
            Ok(Ok(())) => output.await.map_err(|_| HashError::Unusable)?.ok_or(HashError::Unusable),
            // Waited too long. Dropping `output` takes the job out of the queue.
            Ok(Err(_)) | Err(_) => Err(HashError::QueueFull),
        }
    }
}

/// Closes the queue with the last clone of [`Passwords`]. The threads hold the queue, not this.
struct Handle(Arc<Queue>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The parameters of a stored hash, if it is argon2id and not too costly.
fn acceptable_params(stored: &Phc) -> Result<Params, HashError> {
    let is_ours =
        stored.algorithm.as_str() == "argon2id" && stored.version == Some(u32::from(Version::V0x13));
    let params = Params::try_from(stored).map_err(|_| HashError::Unusable)?;
    let is_affordable = params.m_cost() <= MEMORY_KIB_MAX
        && params.t_cost() <= ITERATIONS_MAX
        && params.p_cost() <= PARALLELISM_MAX;
    if is_ours && is_affordable { Ok(params) } else { Err(HashError::Unusable) }
}

/// Runs argon2id. The only place in the platform that does: hashing and comparing are the same computation.
fn derive(work: &Work, memory: &mut [Block]) -> Option<Zeroizing<Vec<u8>>> {
    let mut output = Zeroizing::new(vec![0; work.params.output_len().unwrap_or(OUTPUT_LENGTH)]);
    // A hash from a time of larger parameters does not fit the thread's own buffer.
    let mut larger = Vec::new();
    let needed = work.params.block_count();
    let memory = if memory.len() >= needed {
        &mut memory[..needed]
    } else {
        larger.resize(needed, Block::new());
        larger.as_mut_slice()
    };
    Argon2::new(Algorithm::Argon2id, Version::V0x13, work.params.clone())
        .hash_password_into_with_memory(work.password.as_bytes(), &work.salt, &mut output, memory)
        .ok()
        .map(|()| output)
}

fn phc(params: &Params, salt: &[u8], output: &[u8]) -> Result<Phc, argon2::password_hash::phc::Error> {
    Ok(Phc {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)
            .map_err(|_| argon2::password_hash::phc::Error::MissingField)?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(output)?),
    })
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

#[cfg(test)]
mod tests;
