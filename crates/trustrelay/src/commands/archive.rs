//! `trustrelay export` and `trustrelay import`.

use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use trustrelay_store::{Archive, NotImported, private};

use crate::cli::Place;
use crate::open::{self, Missing};
use crate::output::say;

/// Writes all data into a file, whole or not at all.
pub(crate) async fn export(place: &Place, file: &Path) -> anyhow::Result<ExitCode> {
    let opened = open::data(place, Missing::Refuse).await?;
    let archive = opened.archived.export().await.context("the data cannot be read")?;
    let unwritable = || format!("{} cannot be written", file.display());
    let mut draft = file.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = Path::new(&draft);
    let out = private::create(draft).with_context(unwritable)?;
    let written = write(&archive, out).and_then(|()| std::fs::hard_link(draft, file));
    std::fs::remove_file(draft).with_context(unwritable)?;
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} already exists; choose another file", file.display())
        }
        written => written.with_context(unwritable)?,
    }
    say(format_args!("wrote {} to {}", archive.summary(), file.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(archive: &Archive, out: std::fs::File) -> std::io::Result<()> {
    let mut out = BufWriter::new(out);
    archive.write(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()
}

/// Reads all data from a file into data that is empty, whole or not at all.
pub(crate) async fn import(place: &Place, file: &Path) -> anyhow::Result<ExitCode> {
    let unreadable = || format!("{} cannot be read", file.display());
    // Before anything is begun: a file that is no export leaves nothing behind.
    let archive = Archive::read(BufReader::new(std::fs::File::open(file).with_context(unreadable)?))
        .with_context(unreadable)?;
    let summary = archive.summary();
    let opened = open::data(place, Missing::Receive(archive.fingerprint())).await?;
    match opened.archived.import(archive).await {
        Ok(()) => {}
        Err(NotImported::NotEmpty) => {
            bail!("{} already contains data; import into an empty data directory or database", opened.place)
        }
        Err(NotImported::OtherSecret) => bail!(
            "{} was exported under another server secret; give the secret of that server with --secret-key-file, because its tokens work only with that secret",
            file.display()
        ),
        Err(NotImported::Store(error)) => {
            return Err(error).with_context(|| format!("nothing was imported from {}", file.display()));
        }
    }
    say(format_args!("read {summary} into {}", opened.place))?;
    Ok(ExitCode::SUCCESS)
}
