// The list of feeds, asked for every two seconds, and the payload kinds of their keys.
import { Code, ConnectError, type Feed, type Key, type RingfeedClient } from "@ringfeed/client";
import type { FeedView } from "../protocol.js";
import { feed } from "./read.js";

const EVERY_MILLIS = 2_000;
/** Keys that are looked at for their kinds. */
const LOOKED_AT = 100;
/** Feeds whose keys are looked at for one list; the others with the next ones. */
const ASKED_AT_ONCE = 50;

export class Feeds {
  all: FeedView[] = [];
  version = 0;
  private readonly kinds = new Map<string, { keys: bigint; epoch: bigint; found: Key[] }>();
  private client: RingfeedClient | undefined;
  private changed = () => {};

  constructor(private readonly failed: (error: ConnectError) => void) {}

  start(client: RingfeedClient, changed: () => void): void {
    this.client = client;
    this.changed = changed;
    void this.refresh();
    setInterval(() => void this.refresh(), EVERY_MILLIS);
  }

  /** With another token other keys may be listed. */
  forget(): void {
    this.kinds.clear();
  }

  async refresh(): Promise<void> {
    const client = this.client;
    if (!client) return;
    try {
      const found: Feed[] = [];
      for (let pageToken = ""; ; ) {
        const page = await client.catalog.listFeeds({ pageToken }, { timeoutMs: 5_000 });
        found.push(...page.feeds);
        pageToken = page.nextPageToken;
        if (!pageToken) break;
      }
      const unknown = found.filter((one) => !this.isKnown(one)).slice(0, ASKED_AT_ONCE);
      await Promise.all(unknown.map((one) => this.learn(client, one)));
      this.all = found.map((one) => feed(one, this.kinds.get(one.name)?.found ?? []));
      this.version += 1;
      this.changed();
    } catch (error) {
      this.failed(ConnectError.from(error));
    }
  }

  /** Asked for again when the feed has more keys than then. */
  private isKnown(of: Feed): boolean {
    const known = this.kinds.get(of.name);
    const enough = known && (known.keys === of.keys || known.keys >= LOOKED_AT);
    return enough === true && known?.epoch === of.epoch;
  }

  /** None of a feed that was deleted meanwhile, or is listed only because the caller may upload to it. */
  private async learn(client: RingfeedClient, of: Feed): Promise<void> {
    let found: Key[] = [];
    try {
      found = (await client.catalog.listKeys({ feed: of.name, pageSize: LOOKED_AT }, { timeoutMs: 5_000 })).keys;
    } catch (error) {
      const { code } = ConnectError.from(error);
      if (code !== Code.PermissionDenied && code !== Code.NotFound) throw error;
    }
    this.kinds.set(of.name, { keys: of.keys, epoch: of.epoch, found });
  }
}
