//! A private certificate authority in a directory: what a machine without cert-manager issues its services' certificates with.

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::UnixTime;

use crate::tls::{TlsError, TlsFiles, Workload, remaining_life};

/// Life of the authority's own certificate: ten years.
const CA_LIFE: Duration = Duration::from_hours(10 * 365 * 24);

/// Life of a service's certificate: thirty days, because nothing renews the certificates of a stopped laptop.
const LEAF_LIFE: Duration = Duration::from_hours(30 * 24);

/// How far before its issue a certificate is valid already, for machines whose clocks differ.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file or directory could not be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The authority's key or certificate is not one.
    #[error("{} holds no usable authority", path.display())]
    Authority {
        /// The authority's directory.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// There is a certificate of an authority, but not its key.
    #[error("{} has a certificate but no key", path.display())]
    KeyMissing {
        /// The authority's directory.
        path: PathBuf,
    },
    /// The service's name cannot be in a certificate.
    #[error("no certificate for such a service")]
    Service(#[source] TlsError),
    /// The certificate could not be made.
    #[error("certificate cannot be made")]
    Issue(#[source] rcgen::Error),
}

/// A certificate authority whose key lies in a directory.
pub struct PrivateCa {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for PrivateCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateCa").finish_non_exhaustive()
    }
}

impl PrivateCa {
    /// Opens the authority in `dir` (`ca.key`, mode 0600, and `ca.crt`), or makes one there: ECDSA on P-256, valid for ten years.
    ///
    /// # Errors
    ///
    /// The directory cannot be written, or what it holds is no authority.
    pub fn open_or_create(dir: &Path) -> Result<Self, CaError> {
        fs::create_dir_all(dir).map_err(|source| CaError::File { path: dir.to_owned(), source })?;
        let (key_path, certificate_path) = (dir.join("ca.key"), dir.join("ca.crt"));
        let authority = |source| CaError::Authority { path: dir.to_owned(), source };

        let key = match read(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(authority)?,
            None if certificate_path.exists() => return Err(CaError::KeyMissing { path: dir.to_owned() }),
            None => {
                let key = KeyPair::generate().map_err(CaError::Issue)?;
                // The key goes first: a key without a certificate, left by a crash, gets one the next time.
                write(&key_path, &key.serialize_pem(), Privacy::Secret)?;
                key
            }
        };
        let certificate = if let Some(pem) = read(&certificate_path)? {
            pem
        } else {
            let pem = authority_params().self_signed(&key).map_err(CaError::Issue)?.pem();
            write(&certificate_path, &pem, Privacy::Public)?;
            pem
        };
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(authority)?;
        Ok(Self { certificate, issuer })
    }

    /// Makes sure that `<dir>/<service>` holds `tls.crt`, `tls.key` (mode 0600) and `ca.crt` for the service, and says where they are.
    ///
    /// What is there is kept while it is this authority's and more than a third of its life is left.
    ///
    /// # Errors
    ///
    /// The name is no service's, or the files cannot be written.
    pub fn issue(&self, service: &str, dir: &Path) -> Result<TlsFiles, CaError> {
        let workload = Workload::named(service).map_err(CaError::Service)?;
        let dir = dir.join(workload.name());
        fs::create_dir_all(&dir).map_err(|source| CaError::File { path: dir.clone(), source })?;
        let files = TlsFiles::in_dir(&dir);
        if self.still_good(&files, &workload)? {
            return Ok(files);
        }

        let key = KeyPair::generate().map_err(CaError::Issue)?;
        let certificate = leaf_params(&workload)?.signed_by(&key, &self.issuer).map_err(CaError::Issue)?;
        // A reader that comes between two of these sees files that do not fit together, refuses them, and looks again.
        write(&files.roots, &self.certificate, Privacy::Public)?;
        write(&files.key, &key.serialize_pem(), Privacy::Secret)?;
        write(&files.certificate, &certificate.pem(), Privacy::Public)?;
        Ok(files)
    }

    fn still_good(&self, files: &TlsFiles, workload: &Workload) -> Result<bool, CaError> {
        if read(&files.roots)?.as_ref() != Some(&self.certificate) {
            return Ok(false);
        }
        Ok(remaining_life(files, workload).is_some_and(|remaining| remaining > 1.0 / 3.0))
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Jetway private CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_LIFE);
    params
}

fn leaf_params(workload: &Workload) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(workload.name());
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![SanType::URI(workload.spiffe_id().try_into().map_err(CaError::Issue)?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, LEAF_LIFE);
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn set_validity(params: &mut CertificateParams, life: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + life;
}

fn read(path: &Path) -> Result<Option<String>, CaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CaError::File { path: path.to_owned(), source }),
    }
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Privacy {
    /// The owner: mode 0600.
    Secret,
    /// Everybody: mode 0644.
    Public,
}

/// Puts a whole file in place at once, so that no reader sees half of it.
fn write(path: &Path, text: &str, privacy: Privacy) -> Result<(), CaError> {
    use std::os::unix::fs::PermissionsExt;

    let put = || {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(text.as_bytes())?;
        if privacy == Privacy::Public {
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    put().map_err(|source| CaError::File { path: path.to_owned(), source })
}
