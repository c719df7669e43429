#![no_main]
use lockgate_fuzz::proto::path::{NormalPath, comparable};
// The normal form is its own normal form, and its decoded form has no segment that a server could resolve.
libfuzzer_sys::fuzz_target!(|written: &str| {
    let (written, prefix) = written.split_once('\0').unwrap_or((written, "/a"));
    let _ = comparable(written);
    let Ok(path) = NormalPath::parse(written) else { return };
    assert_eq!(NormalPath::parse(path.as_str()).as_ref(), Ok(&path));
    assert_eq!(path.decoded().matches('/').count(), path.as_str().matches('/').count());
    assert!(path.decoded().starts_with('/') && !path.decoded().contains("//"));
    assert!(!path.decoded().contains(['\\', '\0', '\r', '\n']));
    assert!(path.decoded().split('/').all(|segment| !matches!(segment, "." | "..")));
    let rest = path.strip_prefix(prefix);
    assert!(rest.is_none_or(|rest| rest == "/" || rest.starts_with('/') && path.as_str().ends_with(rest)));
});
