-- The tables of learners.db, format 1.
CREATE TABLE profiles (
    name TEXT PRIMARY KEY COLLATE NOCASE,
    created TEXT NOT NULL,
    retention REAL NOT NULL
);
CREATE TABLE cards (
    profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
    question TEXT NOT NULL,
    state INTEGER NOT NULL,
    step INTEGER,
    stability REAL,
    difficulty REAL,
    due TEXT NOT NULL,
    last_review TEXT,
    PRIMARY KEY (profile, question)
);
CREATE TABLE reviews (
    id INTEGER PRIMARY KEY,
    profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
    question TEXT NOT NULL,
    rating INTEGER NOT NULL,
    at TEXT NOT NULL,
    milliseconds INTEGER
);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    at TEXT NOT NULL,
    content TEXT NOT NULL
);
CREATE TABLE kept (
    profile TEXT NOT NULL REFERENCES profiles(name) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (profile, key)
);
