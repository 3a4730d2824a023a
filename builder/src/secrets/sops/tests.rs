//! by hand
use super::{File, Identities};
use std::path::Path;
#[test]
fn by_hand() {
    let list = std::env::var("SAMPLES").unwrap();
    for line in list.lines() {
        let mut words = line.split(' ');
        let (file, key) = (words.next().unwrap(), words.next().unwrap());
        let ids = Identities::parse(&std::fs::read_to_string(key).unwrap(), key).unwrap_or_default();
        match File::open(Path::new(file), &ids) {
            Ok(f) => {
                for d in &f.documents { let mut t = Vec::new(); d.write_json(&mut t); println!("OK {file}\n   {}", String::from_utf8_lossy(&t)); }
            }
            Err(e) => println!("ERR {file}: {e}"),
        }
    }
}
