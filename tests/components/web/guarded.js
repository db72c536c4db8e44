// Stands before a server as one that wants a token: refuses calls without it as gRPC-Web says it.
import { once } from "node:events";
import http from "node:http";

export async function guarded(server, token) {
  const refuse = (response) => {
    const message = encodeURIComponent("send a token or a client certificate");
    response.writeHead(200, { "content-type": "application/grpc-web+proto", "grpc-status": "16", "grpc-message": message });
    response.end();
  };
  const front = http.createServer((request, response) => {
    const { authorization } = request.headers;
    if (request.method === "POST" && authorization !== `Bearer ${token}`) return refuse(response);
    const [hostname, port] = server.address.split(":");
    const { url: path, method, headers } = request;
    const onward = http.request({ hostname, port, path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  front.listen(0, "127.0.0.1");
  await once(front, "listening");
  const end = () => {
    front.closeAllConnections();
    front.close();
  };
  return { url: `http://127.0.0.1:${front.address().port}/`, end };
}
