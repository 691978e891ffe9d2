// What the browser keeps for the page; where it may keep nothing, the page does until it is closed.

const until = new Map(); // by key

const attempt = (read) => {
  try {
    return read();
  } catch {
    return null; // the reader's settings forbid it
  }
};

const keeper = (storage) => ({
  get: (key) => until.get(key) ?? attempt(() => storage().getItem(key)),
  set: (key, value) => {
    until.set(key, value);
    attempt(() => storage().setItem(key, value));
  },
});

/** Choices, for the next time. */
export const choices = keeper(() => localStorage);

/** Secrets, until the tab is closed. */
export const secrets = keeper(() => sessionStorage);
