//! Upload of revisions.

use sync_protocol::bundle::BundleError;
use sync_protocol::revision::AuthorKeys;
use sync_protocol::{Bundle, Digest, RevisionError};

use crate::blobs::Blobs;
use crate::failure::{Failure, Kind};
use crate::store::revisions::RevisionRow;
use crate::store::{self, Store};

/// Verifies a bundle against the registered authors and keeps it. True when it was new.
///
/// The artifacts are durable before the row that names them.
pub(crate) fn upload(
    store: &dyn Store,
    blobs: &Blobs,
    file: &[u8],
    now_ms: u64,
) -> Result<(RevisionRow, bool), Failure> {
    let bundle = Bundle::parse(file).map_err(refuse)?;
    let authors: AuthorKeys =
        store::read(store, |rows| rows.authors())?.into_iter().map(|author| author.key).collect();
    let revision = bundle.verify(&authors).map_err(refuse)?;
    for (digest, bytes) in &bundle.artifacts {
        blobs.put(digest, bytes).map_err(|error| {
            Failure::internal(format!("artifact {digest} cannot be kept: {error}"))
        })?;
    }
    let manifest = revision.manifest();
    let row = RevisionRow {
        digest: revision.digest(),
        app: manifest.app.clone(),
        version: manifest.version.clone(),
        sequence: manifest.sequence,
        floor: manifest.floor,
        key: revision.key(),
        uploaded_ms: now_ms,
    };
    let artifacts: Vec<(Digest, u64)> = manifest.artifacts().into_iter().collect();
    store::write(store, |rows| {
        let new = rows.add_revision(&row, &bundle.signed, &artifacts)?;
        let kept = rows.revision(&row.digest)?.unwrap_or(row);
        Ok((kept, new))
    })
}

/// Why a bundle was refused, and what to do.
#[expect(clippy::needless_pass_by_value, reason = "it is used with map_err")]
fn refuse(error: BundleError) -> Failure {
    let hint = match &error {
        BundleError::Revision(RevisionError::UnknownKey { .. }) => {
            "register the author's key with `POST /v1/authors`, or sign with a registered one"
        }
        BundleError::Revision(
            RevisionError::BadSignature { .. } | RevisionError::Artifact { .. },
        )
        | BundleError::Truncated(_)
        | BundleError::Trailing(_)
        | BundleError::Order => "the file was changed or damaged on its way; build it again",
        BundleError::Bound { .. } => "make the artifacts smaller",
        BundleError::NotABundle
        | BundleError::Format(_)
        | BundleError::Missing(_)
        | BundleError::Unnamed(_)
        | BundleError::Revision(_) => "build it again with `holm build`",
    };
    let kind = match &error {
        BundleError::Bound { .. } => Kind::TooLarge,
        _ => Kind::Invalid,
    };
    Failure::new(kind, error.to_string(), hint)
}
