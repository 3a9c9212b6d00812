//! The cache of compiled guests: when one is used again, and what is not trusted.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::Abi;
use infer::{End, Engine, EngineConfig, Guest, GuestCache};
use infer_core::ErrorKind;

fn engine(fuel: bool) -> Engine {
    let config = EngineConfig {
        fuel,
        ..EngineConfig::default()
    };
    Engine::new(&config).expect("this machine runs wasmtime")
}

/// Takes a guest through the cache, runs it and expects its words.
async fn run(engine: &Engine, folder: &Path, abi: Abi) {
    let cache = GuestCache::open(folder).expect("a private folder");
    let guest = Guest::compile_cached(engine, &common::guest_bytes("hello", abi), &cache);
    says_hello(&guest.expect("a valid guest")).await;
}

async fn says_hello(guest: &Guest) {
    let ran = common::run(guest, common::instance(&[], Arc::default()), Vec::new()).await;
    assert!(matches!(ran.end, End::Exited(0)), "{:?}", ran.end);
    assert_eq!(ran.text(), "hello from a guest\n");
}

/// The files of a cache.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files
}

/// The only file of a cache.
fn only(folder: &Path) -> PathBuf {
    let mut files = files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// What changes when a file is written anew.
fn identity(path: &Path) -> (u64, i64, i64) {
    let data = fs::metadata(path).expect("a file");
    (data.ino(), data.mtime(), data.mtime_nsec())
}

/// A folder that the cache will make, in one that goes away.
fn fresh() -> (tempfile::TempDir, PathBuf) {
    let temporary = tempfile::tempdir().expect("writable");
    let folder = temporary.path().join("cache/guests");
    (temporary, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compiled_is_used_again_and_by_these_settings_only() {
    for abi in Abi::BOTH {
        let (_temporary, folder) = fresh();
        run(&engine(false), &folder, abi).await;
        let kept = only(&folder);
        assert_eq!(fs::metadata(&folder).expect("made").mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&kept).expect("made").mode() & 0o777, 0o600);
        let before = identity(&kept);
        run(&engine(false), &folder, abi).await;
        assert_eq!(identity(&kept), before, "nothing was compiled");
        run(&engine(true), &folder, abi).await;
        assert_eq!(files(&folder).len(), 2, "fuel is another setting");
        assert_eq!(identity(&kept), before);
    }
}

/// The file's code is what runs: a file made of another guest's under the same name is noticed by its digest only, so
/// this is also what shows that nothing is compiled on a hit.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_was_written_is_compiled_anew() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 8] = [
        ("a bit of the code", |path| flip(path, 3000)),
        ("a bit of the first page", |path| flip(path, 20)),
        ("a bit of the digest", |path| {
            let length = fs::metadata(path).expect("a file").len();
            flip(path, usize::try_from(length).expect("small") - 20);
        }),
        ("cut", |path| {
            let bytes = fs::read(path).expect("readable");
            fs::write(path, &bytes[..bytes.len() - 4096]).expect("writable");
        }),
        ("cut to nothing", |path| {
            fs::write(path, b"").expect("writable")
        }),
        ("longer", |path| {
            let bytes = [fs::read(path).expect("readable"), vec![0; 10]].concat();
            fs::write(path, bytes).expect("writable");
        }),
        ("for others to write", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("own file");
        }),
        ("a link", |path| {
            let elsewhere = path.parent().expect("a folder").join(".elsewhere");
            fs::rename(path, &elsewhere).expect("writable");
            symlink(elsewhere, path).expect("writable");
        }),
    ];
    let engine = engine(false);
    for (name, harm) in harms {
        let (_temporary, folder) = fresh();
        run(&engine, &folder, Abi::Component).await;
        let kept = only(&folder);
        let sound = fs::read(&kept).expect("readable");
        harm(&kept);
        let harmed = fs::symlink_metadata(&kept).expect("there").ino();
        run(&engine, &folder, Abi::Component).await;
        let data = fs::symlink_metadata(&kept).expect("there");
        assert!(data.is_file() && data.mode() & 0o777 == 0o600, "{name}");
        assert_ne!(data.ino(), harmed, "{name}: replaced");
        assert_eq!(fs::read(&kept).expect("readable").len(), sound.len());
        let before = identity(&kept);
        run(&engine, &folder, Abi::Component).await;
        assert_eq!(identity(&kept), before, "{name}: used again");
    }
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).expect("readable");
    bytes[place] ^= 1;
    fs::write(path, bytes).expect("writable");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_guest_s_code_does_not_pass_for_another_s() {
    let (_temporary, folder) = fresh();
    let engine = engine(false);
    run(&engine, &folder, Abi::Component).await;
    let hello = only(&folder);
    let cache = GuestCache::open(&folder).expect("a private folder");
    let other = common::guest_bytes("loop", Abi::Component);
    Guest::compile_cached(&engine, &other, &cache).expect("a valid guest");
    let others: Vec<PathBuf> = files(&folder)
        .into_iter()
        .filter(|path| *path != hello)
        .collect();
    // Sound and private, but under a name that says something else.
    fs::copy(&others[0], &hello).expect("writable");
    run(&engine, &folder, Abi::Component).await;
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let (temporary, folder) = fresh();
    GuestCache::open(&folder).expect("a private folder");
    for mode in [0o777, 0o770, 0o702, 0o1777] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("own folder");
        let error = GuestCache::open(&folder).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Security, "{mode:o}: {error}");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("own folder");
    let link = temporary.path().join("link");
    symlink(&folder, &link).expect("writable");
    let error = GuestCache::open(&link).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Security, "{error}");
    let file = temporary.path().join("file");
    fs::write(&file, b"").expect("writable");
    assert!(GuestCache::open(&file).is_err());
    // Whoever runs this, the root folder of another user: root's for others, a made one for root.
    let own = fs::metadata(&folder).expect("made").uid();
    if own == 0 {
        std::os::unix::fs::chown(&folder, Some(12345), None).expect("root may");
        let error = GuestCache::open(&folder).expect_err("another user's");
        assert_eq!(error.kind(), ErrorKind::Security, "{error}");
    } else {
        let error = GuestCache::open(Path::new("/")).expect_err("root's");
        assert_eq!(error.kind(), ErrorKind::Security, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_stays_below_its_size() {
    let (_temporary, folder) = fresh();
    let engine = engine(false);
    let cache = GuestCache::open(&folder).expect("a private folder");
    let cache = cache.with_largest(1 << 20);
    let old = SystemTime::now() - Duration::from_secs(100_000);
    let put = |name: &str, bytes: usize| {
        let path = folder.join(name);
        fs::write(&path, vec![0; bytes]).expect("writable");
        let file = fs::File::options().write(true).open(&path);
        file.and_then(|file| file.set_modified(old))
            .expect("own file");
    };
    put("a", 600 << 10);
    put(".left-over", 10);
    let hello = common::guest_bytes("hello", Abi::Component);
    Guest::compile_cached(&engine, &hello, &cache).expect("a valid guest");
    assert_eq!(files(&folder).len(), 2, "both fit, what was left over goes");
    put("b", 600 << 10);
    let other = common::guest_bytes("hello", Abi::Preview1);
    Guest::compile_cached(&engine, &other, &cache).expect("a valid guest");
    let names = files(&folder);
    assert!(
        !folder.join("a").exists() || !folder.join("b").exists(),
        "an old one goes: {names:?}"
    );
    let total: u64 = names
        .iter()
        .map(|path| fs::metadata(path).expect("a file").len())
        .sum();
    assert!(total <= 1 << 20, "{total} bytes");
    // What is used is noted, so that it stays longer.
    let kept = names
        .iter()
        .find(|path| path.file_name().is_some_and(|name| name.len() == 64))
        .expect("a compiled guest");
    let file = fs::File::options().write(true).open(kept);
    file.and_then(|file| file.set_modified(old))
        .expect("own file");
    for guest in [hello, other] {
        Guest::compile_cached(&engine, &guest, &cache).expect("a valid guest");
    }
    let used = fs::metadata(kept).and_then(|data| data.modified());
    assert!(used.expect("a file") > old + Duration::from_secs(1000));
}

/// `infer run` of one guest by many processes at once, with a cache in the given home.
fn processes(home: &Path, number: usize, options: &str) {
    let guest = common::guest_path("hello", Abi::Component);
    let command = format!("infer -v run {options} {}", guest.display());
    let started: Vec<_> = (0..number)
        .map(|_| {
            let mut shell = common::shell(&command, home);
            shell.env("INFER_HOME", home);
            shell.stdout(Stdio::piped()).stderr(Stdio::piped());
            shell.spawn().expect("a shell")
        })
        .collect();
    for process in started {
        let output = process.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(output.stdout, b"hello from a guest\n", "{said}");
    }
}

#[test]
fn many_processes_share_a_cache() {
    let home = tempfile::tempdir().expect("writable");
    let folder = home.path().join("cache/guests");
    processes(home.path(), 1, "--no-cache");
    assert!(!folder.exists(), "--no-cache keeps nothing");
    processes(home.path(), 8, "");
    let kept = only(&folder);
    let before = identity(&kept);
    processes(home.path(), 8, "");
    assert_eq!(identity(&kept), before, "nothing was compiled");
    fs::write(&kept, b"nonsense").expect("writable");
    processes(home.path(), 8, "");
    assert!(fs::metadata(only(&folder)).expect("a file").len() > 100_000);
}

/// A cache that is no use stops nobody.
#[test]
fn a_run_does_without_a_cache() {
    let home = tempfile::tempdir().expect("writable");
    let cache = home.path().join("cache");
    fs::write(&cache, b"a file where a folder should be").expect("writable");
    processes(home.path(), 1, "");
    fs::remove_file(&cache).expect("own file");
    fs::create_dir_all(cache.join("guests")).expect("writable");
    let set = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(cache.join("guests"), permissions).expect("own folder");
    };
    set(0o777);
    processes(home.path(), 1, "");
    assert_eq!(
        files(&cache.join("guests")).len(),
        0,
        "nothing is kept there"
    );
    // Root may write everywhere; for others this is a folder that they can only read.
    set(0o500);
    processes(home.path(), 1, "");
    set(0o700);
}
