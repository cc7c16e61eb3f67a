//! Figures, printed. `cargo test --release -p metadata-sql --test it -- --ignored --nocapture --test-threads=1 figures`
