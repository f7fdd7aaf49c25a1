# The few verbs people use. CI calls the same commands.

# Format, lints, purity.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo check -p cairn-core --target x86_64-unknown-none

# All tests, as in the README.
test:
    cargo test --workspace

# A cluster in one process, to play with.
dev *args:
    cargo run --release -- dev {{args}}

# Seeded storms: `just sweep --seeds 2000`.
sweep *args:
    cargo run --release -p scenarios --bin cairn-sim -- sweep {{args}}

# One seed with its full trace: `just replay --seed 17`.
replay *args:
    cargo run --release -p scenarios --bin cairn-sim -- replay {{args}}

# A page that explains one run: `just explain --seed 1`.
explain *args:
    cargo run --release -p scenarios --bin cairn-sim -- explain {{args}}

# Every planted defect against the sweep.
mutants *args:
    cargo run --release -p scenarios --bin cairn-sim -- mutants {{args}}

# Real processes under kill -9.
chaos *args:
    cargo run --release -- chaos {{args}}

# Throughput beside this machine's own ceiling.
bench *args:
    cargo run --release -- bench {{args}}

# Coverage-guided fuzzing of one decoder: `just fuzz frame`. See fuzz/README.md.
fuzz target *args:
    cargo fuzz run -s none {{target}} -- -max_total_time=60 -max_len=2048 -malloc_limit_mb=64 {{args}}
