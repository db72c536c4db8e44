// The little of Node that consumer.ts names.
declare const process: { argv: string[] };
