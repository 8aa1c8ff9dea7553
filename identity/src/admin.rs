//! Accounts made by an operator: the first admin on the command line, the demo accounts of `jetway up`.
//!
//! There is no default admin and no default password. The password comes from a file or standard input, never from the command
//! line, where other users of the machine could read it.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use mesh::{
    auth::PrincipalId,
    clock::Clock,
    config::{self, Configuration as _, Sources},
    db::{self, Db},
    run::Service as _,
};
use zeroize::Zeroizing;

use crate::{
    Config, Identity, MIGRATIONS,
    domain::{EmailAddress, Password, Username, roles},
    error::Error,
    password::{Passwords, Verdict},
    service::{assign_role, sign_up},
    store::{self, credentials::Identifier, users::NewUser},
};

/// The actor of what is done here.
const ACTOR: &str = "command-line";

/// Longest password file that is read, in bytes.
const PASSWORD_FILE_BYTES_MAX: u64 = 4096;

/// An account that there should be.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// Its e-mail address, which it is found by.
    pub email: &'a str,
    /// Its username; `None` for none.
    pub username: Option<&'a str>,
    /// What it is called; may be empty.
    pub display_name: &'a str,
    /// Its password, if it has to be made. One that exists keeps its own.
    pub password: Password,
    /// Roles it should have, beside `customer`.
    pub roles: &'a [&'a str],
}

/// Makes sure that there is an account with this e-mail address and at least these roles, and says whose it is.
///
/// # Errors
///
/// When the address, the username or a role is not one, the username is somebody else's, or the database fails.
pub async fn ensure_account(
    db: &Db,
    passwords: &Passwords,
    account: &Account<'_>,
    now: Timestamp,
) -> Result<PrincipalId, Error> {
    let user = NewUser {
        email: EmailAddress::parse(account.email).map_err(Error::Email)?,
        username: account.username.map(|text| Username::parse(text).ok_or(Error::Username)).transpose()?,
        display_name: account.display_name.to_owned(),
        locale: String::new(),
    };
    let id = match id_of(db, &user.email).await? {
        Some(id) => id,
        None => create(db, passwords, &user, account.password.clone(), now).await?,
    };
    db.transaction("ensure_roles", async |conn| {
        let held = store::roles::of(conn, id).await?;
        for role in account.roles.iter().filter(|role| !held.iter().any(|held| held == *role)) {
            assign_role::assign(conn, id, role, ACTOR, now).await?;
        }
        Ok::<_, Error>(())
    })
    .await?;
    Ok(id)
}

async fn id_of(db: &Db, email: &EmailAddress) -> Result<Option<PrincipalId>, Error> {
    let mut conn = db.connection().await?;
    store::users::id_of_email(&mut conn, email).await
}

async fn create(
    db: &Db,
    passwords: &Passwords,
    user: &NewUser,
    password: Password,
    now: Timestamp,
) -> Result<PrincipalId, Error> {
    let hash = passwords.patient().make(password).await?;
    let id = PrincipalId::generate();
    let created = db
        .transaction("create_account", async |conn| sign_up::create(conn, id, user, &hash, ACTOR, now).await)
        .await;
    match created {
        Ok(user) => Ok(user.id),
        // Somebody was faster.
        Err(Error::EmailTaken) => id_of(db, &user.email).await?.ok_or(Error::EmailTaken),
        Err(error) => Err(error),
    }
}

#[derive(Parser)]
#[command(name = "identity")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Manage admins.
    #[command(subcommand)]
    Admin(Admin),
}

#[derive(Subcommand)]
enum Admin {
    /// Create an admin, or make the user with that e-mail address one. Prints the user's name.
    Create(Create),
}

#[derive(Args)]
struct Create {
    /// The admin's e-mail address.
    #[arg(long)]
    email: String,
    /// The admin's username.
    #[arg(long)]
    username: Option<String>,
    /// Read the password from this file; standard input otherwise. A line break at its end does not count.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Read the service's settings from this TOML file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Set one setting, as `key=value`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs `identity admin …`.
pub fn run() -> ExitCode {
    let Command::Admin(Admin::Create(create)) = Arguments::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a tokio runtime");
    let outcome = runtime
        .block_on(create_admin(create))
        .and_then(|admin| writeln!(std::io::stdout(), "{}", admin.name()).context("print the user's name"));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("identity admin create: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn create_admin(create: Create) -> anyhow::Result<PrincipalId> {
    let sources = Sources::of_process(create.config, create.set);
    let config: Config = config::load(Identity::NAME, &sources)?;
    let password = read_password(create.password_file.as_ref())?;
    mesh::tls::install_crypto_provider();
    db::migrate(&config.database, MIGRATIONS).await.context("migrate the database")?;
    let db = Db::new(&config.database).context("make the connection pool")?;
    let passwords = Passwords::start(&config.password)?;
    let account = Account {
        email: &create.email,
        username: create.username.as_deref(),
        display_name: "",
        password,
        roles: &[roles::ADMIN],
    };
    must_be_whose_password_it_is(&db, &passwords, &account).await?;
    let now = Clock::system(config.parts().clock_file.cloned()).now();
    Ok(ensure_account(&db, &passwords, &account, now).await?)
}

/// Anybody can sign up with an address. The account that becomes an admin must be the operator's own, so one that is there already must have the
/// password that the operator gives.
async fn must_be_whose_password_it_is(
    db: &Db,
    passwords: &Passwords,
    account: &Account<'_>,
) -> anyhow::Result<()> {
    let email = EmailAddress::parse(account.email).map_err(Error::Email)?;
    let mut conn = db.connection().await?;
    let identifier = Identifier::Email(email.canonical().to_owned());
    let Some(credential) = store::credentials::find(&mut conn, &identifier).await? else { return Ok(()) };
    drop(conn);
    match passwords
        .patient()
        .verify(account.password.clone(), Some(&credential.hash))
        .await
        .map_err(Error::Hash)?
    {
        Verdict::Right { .. } => Ok(()),
        Verdict::Wrong => anyhow::bail!(
            "there is an account with this address and another password: give that password, or another address"
        ),
    }
}

fn read_password(file: Option<&PathBuf>) -> anyhow::Result<Password> {
    let mut text = Zeroizing::new(String::new());
    match file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(PASSWORD_FILE_BYTES_MAX).read_to_string(&mut text))
            .with_context(|| format!("read the password from {}", path.display()))?,
        None => std::io::stdin()
            .take(PASSWORD_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .context("read the password from standard input")?,
    };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let password = line.strip_suffix('\r').unwrap_or(line);
    Ok(Password::chosen(password.to_owned()).map_err(Error::Password)?)
}
