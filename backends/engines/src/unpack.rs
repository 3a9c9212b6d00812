//! Takes the libraries and licences out of a wheel, into one flat folder.
//!
//! A wheel is a zip archive. Its digest was checked before, so what stands here is a second wall: no
//! member leads elsewhere, none is a link, none is larger than it says or than anything sensible.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use infer_core::{Error, ErrorKind, Result};
use infer_models::install::{check_path, file_error};
use zip::ZipArchive;
use zip::read::ZipFile;

use crate::manifest::{EnginePackage, check_flat};

/// The largest library today has 0.5 GB, all of an engine 1.7 GB.
const LARGEST_MEMBER: u64 = 2 << 30;
const LARGEST_WHEEL: u64 = 6 << 30;

/// Unpacks what the package is for into `folder` and gives the files' names. `progress` is called with
/// the bytes so far and in all.
///
/// # Errors
/// `InvalidEncoding` for what is no sound wheel, `TooLarge` past the limits.
pub(crate) fn unpack(
    wheel: &Path,
    package: &EnginePackage,
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<String>> {
    let file = File::open(wheel).map_err(|error| file_error("open", wheel, error))?;
    let mut archive = ZipArchive::new(file).map_err(|error| broken(wheel).with_source(error))?;
    let wanted = wanted(&mut archive, wheel, package)?;
    let total = wanted.iter().map(|member| member.bytes).sum();
    if total > LARGEST_WHEEL {
        return Err(too_large(wheel, total));
    }
    let mut done = 0;
    for member in &wanted {
        progress(done, total);
        let mut source = archive
            .by_index(member.index)
            .map_err(|error| broken(wheel).with_source(error))?;
        write(&mut source, member, &folder.join(&member.name))?;
        done += member.bytes;
    }
    progress(total, total);
    Ok(wanted.into_iter().map(|member| member.name).collect())
}

/// A member that is taken.
struct Member {
    index: usize,
    /// The file's name in the engine's folder.
    name: String,
    bytes: u64,
}

fn wanted(
    archive: &mut ZipArchive<File>,
    wheel: &Path,
    package: &EnginePackage,
) -> Result<Vec<Member>> {
    let (mut members, mut names, mut libraries) = (Vec::new(), HashSet::new(), 0);
    for index in 0..archive.len() {
        let file = archive
            .by_index(index)
            .map_err(|error| broken(wheel).with_source(error))?;
        let path = check_member(&file, wheel)?;
        let Some((name, kind)) = flat_name(&path, package) else {
            continue;
        };
        check_flat(&name).map_err(|error| broken(wheel).with_source(error))?;
        if file.size() > LARGEST_MEMBER {
            return Err(too_large(wheel, file.size()));
        }
        if !names.insert(name.clone()) {
            let message = format!("{}: `{name}` is in it twice", broken(wheel));
            return Err(Error::new(ErrorKind::InvalidEncoding, message));
        }
        libraries += usize::from(kind == Kind::Library);
        let bytes = file.size();
        members.push(Member { index, name, bytes });
    }
    if libraries == 0 {
        let message = format!("{}: no library in `{}`", broken(wheel), package.libraries);
        return Err(Error::new(ErrorKind::InvalidEncoding, message));
    }
    Ok(members)
}

/// The path of a member, which stays inside the folder that it is unpacked to and is no link.
fn check_member(file: &ZipFile<'_, File>, wheel: &Path) -> Result<String> {
    let path = std::str::from_utf8(file.name_raw())
        .map_err(|error| broken(wheel).with_source(error))?
        .to_owned();
    check_path(path.trim_end_matches('/')).map_err(|error| broken(wheel).with_source(error))?;
    if file.is_symlink() {
        let message = format!("{}: `{}` is a link", broken(wheel), path.escape_debug());
        return Err(Error::new(ErrorKind::InvalidEncoding, message));
    }
    Ok(path)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Library,
    Licence,
}

/// The name in the engine's folder of a member that is taken. Packages have licences of the same name,
/// so these get the package's before it.
fn flat_name(path: &str, package: &EnginePackage) -> Option<(String, Kind)> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if folder == package.libraries && is_library(name) {
        let taken = !package.leave_out.iter().any(|left_out| left_out == name);
        return taken.then(|| (name.to_owned(), Kind::Library));
    }
    is_licence(folder, name).then(|| (format!("{}-{name}", package.wheel.name), Kind::Licence))
}

/// `libX.so` and `libX.so.1.2`; not `X.cpython-312-x86_64-linux-gnu.so`, which is for Python.
fn is_library(name: &str) -> bool {
    let version = name
        .strip_prefix("lib")
        .and_then(|name| name.split_once(".so"));
    version.is_some_and(|(_, version)| {
        version.is_empty()
            || version.starts_with('.')
                && version[1..].chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

/// Whether it is a text of a licence, of the whole package or of what is in it.
fn is_licence(folder: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let text = !name.contains('.') || name.ends_with(".txt") || name.ends_with(".md");
    let words = ["licen", "notice", "third-party", "copying", "privacy"];
    let shallow = !folder.contains('/') || folder.contains(".dist-info/");
    text && shallow && words.iter().any(|word| name.contains(word))
}

fn write(source: &mut impl Read, member: &Member, target: &Path) -> Result<()> {
    let mut file = File::create_new(target).map_err(|error| file_error("create", target, error))?;
    // One byte more than it says shows a member that is larger.
    let written = io::copy(&mut source.take(member.bytes + 1), &mut file);
    let written = written.map_err(|error| file_error("unpack", target, error))?;
    if written != member.bytes {
        let message = format!(
            "`{}`: expected {} bytes, got another number",
            member.name, member.bytes
        );
        return Err(Error::new(ErrorKind::InvalidEncoding, message));
    }
    Ok(())
}

fn broken(wheel: &Path) -> Error {
    let message = format!("`{}` is no sound wheel", wheel.display());
    Error::new(ErrorKind::InvalidEncoding, message)
}

fn too_large(wheel: &Path, bytes: u64) -> Error {
    let message = format!(
        "{}: {bytes} bytes in one member or in all are too many",
        broken(wheel)
    );
    Error::new(ErrorKind::TooLarge, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Names and contents.
    type Members<'a> = &'a [(&'a str, &'a [u8])];
    use std::fs;
    use std::io::Write;

    use infer_models::Package;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn package() -> EnginePackage {
        EnginePackage {
            role: crate::Role::Engine,
            libraries: "tiny/libs".to_owned(),
            leave_out: vec!["libskip.so.1".to_owned()],
            wheel: Package {
                name: "tiny".to_owned(),
                version: "1".to_owned(),
                file: "tiny-1-py3-none-any.whl".to_owned(),
                bytes: 1,
                sha256: "0".repeat(64),
            },
        }
    }

    fn unpacked(members: &[(&str, &[u8])]) -> Result<Vec<(String, Vec<u8>)>> {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("wheel");
        let mut writer = ZipWriter::new(File::create(&wheel).unwrap());
        for (name, bytes) in members {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        let target = folder.path().join("flat");
        fs::create_dir(&target).unwrap();
        let names = unpack(&wheel, &package(), &target, &mut |_, _| {});
        let escaped = fs::read_dir(folder.path()).unwrap().count() > 2;
        assert!(!escaped, "a member left its folder");
        let read = |name: String| {
            let bytes = fs::read(target.join(&name)).unwrap();
            (name, bytes)
        };
        Ok(names?.into_iter().map(read).collect())
    }

    #[test]
    fn only_libraries_and_licences_are_taken() {
        let got = unpacked(&[
            ("tiny/__init__.py", b"import evil"),
            ("tiny/libs/libtiny.so.1.2", b"ELF"),
            ("tiny/libs/libskip.so.1", b"no"),
            ("tiny/libs/_tiny.cpython-312-x86_64-linux-gnu.so", b"no"),
            ("tiny/libs/libtiny.a", b"no"),
            ("tiny/libs/libtiny.so.py", b"no"),
            ("other/libother.so", b"no"),
            ("tiny/LICENSE", b"free"),
            ("tiny/deep/down/LICENSE", b"no"),
            ("tiny/license.py", b"no"),
            ("tiny-1.dist-info/licenses/x/third-party.txt", b"theirs"),
        ]);
        let expected: [(&str, &[u8]); 3] = [
            ("libtiny.so.1.2", b"ELF"),
            ("tiny-LICENSE", b"free"),
            ("tiny-third-party.txt", b"theirs"),
        ];
        assert_eq!(
            got.unwrap(),
            expected.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        );
    }

    #[test]
    fn wheels_that_are_refused() {
        let cases: [(Members<'_>, &str); 5] = [
            (
                &[("tiny/libs/../../../evil.so", b"x")],
                "expected a path inside",
            ),
            (&[("/tmp/evil.so", b"x")], "expected a path inside"),
            (&[("tiny\\libs\\evil.so", b"x")], "expected a path inside"),
            (
                &[("tiny/LICENSE", b"a"), ("tiny/libs/libtiny.so.x", b"x")],
                "no library in `tiny/libs`",
            ),
            (
                &[
                    ("tiny/libs/libtiny.so", b"a"),
                    ("tiny/LICENSE", b"a"),
                    ("LICENSE", b"a"),
                ],
                "`tiny-LICENSE` is in it twice",
            ),
        ];
        for (members, expected) in cases {
            let error = unpacked(members).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEncoding, "{expected}");
            assert!(error.report().contains(expected), "{}", error.report());
        }
    }

    #[test]
    fn links_cut_files_and_lies_about_sizes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("wheel");
        let mut writer = ZipWriter::new(File::create(&wheel).unwrap());
        let options = SimpleFileOptions::default();
        writer
            .add_symlink("tiny/libs/libtiny.so", "/etc/passwd", options)
            .unwrap();
        writer.finish().unwrap();
        let error = unpack(&wheel, &package(), folder.path(), &mut |_, _| {}).unwrap_err();
        assert!(error.report().contains("is a link"), "{}", error.report());

        let bytes = fs::read(&wheel).unwrap();
        fs::write(&wheel, &bytes[..bytes.len() / 2]).unwrap();
        let error = unpack(&wheel, &package(), folder.path(), &mut |_, _| {}).unwrap_err();
        assert!(error.report().contains("is no sound wheel"), "{error:?}");

        let member = |bytes| Member {
            index: 0,
            name: "libx.so".to_owned(),
            bytes,
        };
        for (claimed, name) in [(2, "less"), (9, "more")] {
            let target = folder.path().join(name);
            let error = write(&mut &b"1234"[..], &member(claimed), &target).unwrap_err();
            assert!(error.to_string().contains("another number"), "{error}");
        }
    }
}
