// One HTTP exchange with the daemon, over TCP or a Unix socket. Blocks.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::cli {

/// How https is spoken; what is empty is the system's.
struct Tls {
  bool insecure = false;  ///< the server's certificate is not looked at
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
};

/// Where a server is: "http://host:port[/prefix]", or a Unix socket.
struct Endpoint {
  std::string base_url;   ///< without a slash at the end
  std::string unix_path;  ///< empty: TCP
  Tls tls{};
  /// As people write it: the URL, or "unix:/path".
  std::string to_string() const { return unix_path.empty() ? base_url : "unix:" + unix_path; }
};

struct HttpRequest {
  std::string method = "GET";
  std::string path;                    ///< with the query, already encoded; starts with '/'
  std::vector<std::string> headers{};  ///< "Name: value"
  std::string body{};                  ///< JSON; empty: none
};

struct HttpResponse {
  long status = 0;
  std::string body;
};

struct HttpLimits {
  std::chrono::seconds connect_timeout{10};
  std::chrono::seconds timeout{600};
  std::size_t max_body_bytes = 256 << 20;
};

/// Any status is a success; Errc::unavailable if nobody answers there, Errc::timeout, Errc::corrupt for a body beyond
/// the limit. No redirect is followed, and no proxy of the environment is asked: the daemon is near.
Result<HttpResponse> exchange(const Endpoint& endpoint, const HttpRequest& request, const HttpLimits& limits = {});

/// Does anybody listen there? A server that is there but makes no sense is somebody. Errc::timeout if that cannot be
/// known in time.
Result<bool> somebody_listens(const Endpoint& endpoint, const HttpLimits& limits = {});

/// What the server says went wrong, whichever of the three APIs it is: Cinder's fault, Glance's page, our own; else the
/// status.
std::string explain(const HttpResponse& response);

/// A path segment or query value with what needs it %-encoded.
std::string encode(std::string_view text);

}  // namespace imagecache::cli
