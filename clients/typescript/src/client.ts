// The calls of a server, over gRPC-Web: what a browser and Node both speak.
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { CatalogService } from "./generated/ringfeed/v1/catalog_pb.js";
import { FeedService } from "./generated/ringfeed/v1/feed_pb.js";
import { type SubscribeOptions, Subscription } from "./subscription.js";

export interface ClientOptions {
  /** "http://127.0.0.1:50051", or in a page where it came from. */
  baseUrl: string;
  /** Asked before each call: sent as `authorization: Bearer`. */
  token?: () => string | undefined;
  /** Another way to the server. */
  transport?: Transport;
}

/** A ringfeed server. */
export class RingfeedClient {
  readonly feeds: Client<typeof FeedService>;
  readonly catalog: Client<typeof CatalogService>;

  constructor(options: ClientOptions) {
    const transport = options.transport ?? webTransport(options);
    this.feeds = createClient(FeedService, transport);
    this.catalog = createClient(CatalogService, transport);
  }

  /** Follows feeds; nothing is sent before it is iterated over. */
  subscribe(options: SubscribeOptions): Subscription {
    return new Subscription(this.feeds, options);
  }
}

function webTransport({ baseUrl, token }: ClientOptions): Transport {
  const authorize: Interceptor = (next) => (request) => {
    const said = token?.();
    if (said) request.header.set("authorization", `Bearer ${said}`);
    return next(request);
  };
  return createGrpcWebTransport({ baseUrl, interceptors: [authorize] });
}
