// TLS on both sides: towards clients and towards upstreams.
#include "http/tls.hpp"

#include <fcntl.h>

#include <fstream>
#include <future>
#include <thread>

#include "support/scripted_origin.hpp"
#include "support/temp_dir.hpp"
#include "unit/http/certificates.hpp"
#include "unit/http/rig.hpp"

namespace imagecache::http {
namespace {

using test_rig::Authority;
using test_rig::RawPeer;

/// A blocking client that speaks TLS; what it trusts and shows is up to the test.
class TlsPeer {
 public:
  TlsPeer(std::uint16_t port, SSL_CTX* context) : peer_(RawPeer::connect(port)), ssl_(SSL_new(context)) {
    SSL_set_fd(ssl_.get(), peer_.fd());
  }
  bool handshake() { return SSL_connect(ssl_.get()) == 1; }
  bool send(std::string_view bytes) {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) == static_cast<int>(bytes.size());
  }
  std::string read_exactly(std::size_t size) {
    std::string all(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      std::size_t n = 0;
      if (SSL_read_ex(ssl_.get(), all.data() + got, size - got, &n) != 1) break;
      got += n;
    }
    all.resize(got);
    return all;
  }
  /// All until the other side says that nothing more comes; "cut off" behind it where it did not say so.
  std::string read_to_end() {
    std::string all;
    for (;;) {
      std::string part(65536, '\0');
      std::size_t n = 0;
      const int result = SSL_read_ex(ssl_.get(), part.data(), part.size(), &n);
      if (result != 1) {
        return SSL_get_error(ssl_.get(), result) == SSL_ERROR_ZERO_RETURN ? all : all + "cut off";
      }
      all.append(part, 0, n);
    }
  }
  SSL* ssl() { return ssl_.get(); }
  std::string server_name() {
    X509* certificate = SSL_get0_peer_certificate(ssl_.get());
    char name[64] = {};
    if (certificate) X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
    return name;
  }
  RawPeer& peer() { return peer_; }

 private:
  RawPeer peer_;
  SslPtr ssl_;
};

class Tls : public test_rig::Rig {
 protected:
  Tls() {
    authority.write(path("ca.pem"));
    authority.issue(path("server.pem"), "first");
    authority.issue(path("client.pem"), "client");
    context.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_load_verify_locations(context.get(), path("ca.pem").c_str(), nullptr);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  }
  std::string path(const std::string& name) { return (directory / name).native(); }
  ServerTls files() { return {.cert_file = path("server.pem"), .key_file = {}, .client_ca_file = {}}; }

  imagecache::test::TempDir directory;
  Authority authority{"authority"};
  SslContextPtr context;
  const std::string request = "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
};

TEST_F(Tls, AnswersAndKeepsTheConnection) {
  serve([](Exchange& e) { return test_rig::say(e, std::string(e.scheme())); }, {}, files());
  TlsPeer client(server->port(), context.get());
  const unsigned char protocols[] = "\x02h2\x08http/1.1";
  SSL_set_alpn_protos(client.ssl(), protocols, sizeof protocols - 1);
  ASSERT_TRUE(client.handshake());
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(client.ssl(), &chosen, &size);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(chosen), size), "http/1.1");
  ASSERT_TRUE(client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"));
  ASSERT_TRUE(client.send(request));
  const std::string all = client.read_to_end();
  EXPECT_TRUE(all.ends_with("\r\n\r\nhttps")) << all;
  EXPECT_NE(all.find("X-Path: /2"), std::string::npos);
  EXPECT_EQ(counters.http_connections_accepted, 1U);
}

TEST_F(Tls, SendsFilesAndRangesOfThemAndGrowingOnes) {
  const auto content = imagecache::test::Content::generated(5 << 20, 1).bytes();
  std::ofstream(path("f"), std::ios::binary) << content;
  const auto fd = base::open_file(path("f"), O_RDONLY).value();
  std::atomic<std::uint64_t> counted = 0;
  serve(
      [&](Exchange& exchange) -> base::Task<void> {
        WaitAvailable wait = [&](std::uint64_t offset, base::Deadline) -> base::Task<Result<std::uint64_t>> {
          co_return std::min<std::uint64_t>(offset + 300000, content.size());
        };
        const std::string_view what = exchange.path();
        if (what == "/range") {
          static_cast<void>(co_await exchange.respond_file({.status = 206}, fd.get(), 12345, 777777, {}));
        } else if (what == "/chunked") {
          static_cast<void>(co_await exchange.respond_file({}, fd.get(), 0, std::nullopt, wait));
        } else {
          const auto length = what == "/short" ? content.size() + 1 : content.size();
          static_cast<void>(co_await exchange.respond_file({}, fd.get(), 0, length, {}));
        }
        counted = exchange.body_bytes_sent();
      },
      {}, files());
  const auto get = [&](const std::string& what) {
    TlsPeer client(server->port(), context.get());
    EXPECT_TRUE(client.handshake());
    client.send("GET " + what + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    return client.read_to_end();
  };
  EXPECT_TRUE(get("/whole").ends_with("\r\n\r\n" + content));
  EXPECT_EQ(counted, content.size());
  EXPECT_TRUE(get("/range").ends_with("\r\n\r\n" + content.substr(12345, 777777)));
  EXPECT_EQ(counted, 777777U);
  EXPECT_TRUE(get("/chunked").ends_with("\r\n0\r\n\r\n"));
  EXPECT_EQ(counted, content.size());
  const std::string part = get("/short");
  EXPECT_TRUE(part.substr(part.find("\r\n\r\n") + 4).starts_with(content));
  stop(server);
  EXPECT_EQ(counted, content.size());
}

TEST_F(Tls, AFileThatCannotBeReadIsNotTheClientsFault) {
  const auto fd = base::open_file("/proc/self/mem", O_RDONLY).value();  // nothing is mapped at its first page
  std::promise<Result<void>> outcome;
  serve(
      [&](Exchange& exchange) -> base::Task<void> {
        outcome.set_value(co_await exchange.respond_file({}, fd.get(), 0, 4096, {}));
      },
      {}, files());
  TlsPeer client(server->port(), context.get());
  ASSERT_TRUE(client.handshake());
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const auto sent = outcome.get_future().get();
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::internal) << sent.error().message;
  stop(server);
}

TEST_F(Tls, ReadsUploads) {
  serve(
      [](Exchange& exchange) -> base::Task<void> {
        auto body = co_await exchange.read_body();
        static_cast<void>(co_await exchange.respond({.body = body ? *body : body.error().message}));
      },
      {.max_body_bytes = 1 << 20}, files());
  TlsPeer client(server->port(), context.get());
  ASSERT_TRUE(client.handshake());
  const std::string body(500000, 'u');
  client.send("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 500000\r\n\r\n");
  client.send(body);
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\n" + body));
}

TEST_F(Tls, LetsInOnlyWhoShowsACertificateWhereOneIsAsked) {
  ServerTls strict = files();
  strict.client_ca_file = path("ca.pem");
  serve([](Exchange& e) { return test_rig::say(e, "in"); }, {}, strict);
  // By TLS 1.3 a client learns of its refusal only when it reads.
  const auto ask = [&] {
    TlsPeer client(server->port(), context.get());
    return client.handshake() && client.send(request) ? client.read_to_end() : "refused";
  };
  EXPECT_EQ(ask().find("\r\n\r\nin"), std::string::npos);
  Authority other("authority");
  other.issue(path("stranger.pem"), "stranger");
  SSL_CTX_use_certificate_chain_file(context.get(), path("stranger.pem").c_str());
  SSL_CTX_use_PrivateKey_file(context.get(), path("stranger.pem").c_str(), SSL_FILETYPE_PEM);
  EXPECT_EQ(ask().find("\r\n\r\nin"), std::string::npos);
  SSL_CTX_use_certificate_chain_file(context.get(), path("client.pem").c_str());
  SSL_CTX_use_PrivateKey_file(context.get(), path("client.pem").c_str(), SSL_FILETYPE_PEM);
  EXPECT_TRUE(ask().ends_with("\r\n\r\nin"));
  EXPECT_EQ(counters.http_requests, 1U);
}

TEST_F(Tls, RefusesOldProtocolsAndOthersThanHttp) {
  serve([](Exchange& e) { return test_rig::say(e, "in"); }, {}, files());
  TlsPeer other(server->port(), context.get());
  const unsigned char protocols[] = "\x02h2";
  SSL_set_alpn_protos(other.ssl(), protocols, sizeof protocols - 1);
  EXPECT_FALSE(other.handshake());
  TlsPeer old(server->port(), context.get());
  SSL_set_security_level(old.ssl(), 0);
  SSL_set_max_proto_version(old.ssl(), TLS1_1_VERSION);
  EXPECT_FALSE(old.handshake());
  TlsPeer second(server->port(), context.get());
  SSL_set_max_proto_version(second.ssl(), TLS1_2_VERSION);
  EXPECT_TRUE(second.handshake());
  RawPeer plain = RawPeer::connect(server->port());
  plain.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(plain.read_to_end().bytes.find("HTTP/"), std::string::npos);
}

TEST_F(Tls, AClientThatNeverEndsItsHandshakeIsGivenUp) {
  serve([](Exchange& e) { return test_rig::say(e, "in"); }, {.header_timeout = std::chrono::milliseconds(50)}, files());
  RawPeer silent = RawPeer::connect(server->port());
  silent.send("\x16\x03\x01");
  EXPECT_EQ(silent.read_to_end().bytes, "");
}

TEST_F(Tls, NewConnectionsUseTheNewCertificateAndABadOneChangesNothing) {
  serve([](Exchange& e) { return test_rig::say(e, "in"); }, {}, files());
  TlsPeer old(server->port(), context.get());
  ASSERT_TRUE(old.handshake());
  EXPECT_EQ(old.server_name(), "first");

  authority.issue(path("server.pem"), "second");
  ASSERT_TRUE(server->reload_tls());
  TlsPeer fresh(server->port(), context.get());
  ASSERT_TRUE(fresh.handshake());
  EXPECT_EQ(fresh.server_name(), "second");

  std::ofstream(path("server.pem")) << "nonsense";
  const auto refused = server->reload_tls();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(path("server.pem")), std::string::npos) << refused.error().message;
  TlsPeer third(server->port(), context.get());
  ASSERT_TRUE(third.handshake());
  EXPECT_EQ(third.server_name(), "second");

  ASSERT_TRUE(old.send(request));
  EXPECT_TRUE(old.read_to_end().ends_with("\r\n\r\nin"));
}

TEST_F(Tls, FilesThatCannotBeUsedAreToldAtTheStart) {
  Server unable("unable", {}, {}, [](Exchange& e) { return test_rig::say(e, ""); }, io, pool, counters);
  const auto absent = unable.listen({.host = "127.0.0.1"}, ServerTls{path("absent.pem"), {}, {}});
  ASSERT_FALSE(absent);
  EXPECT_NE(absent.error().message.find("absent.pem"), std::string::npos);
  const auto foreign = unable.listen({.host = "127.0.0.1"}, ServerTls{path("server.pem"), path("client.pem"), {}});
  ASSERT_FALSE(foreign);
  EXPECT_NE(foreign.error().message.find("client.pem"), std::string::npos);
  io.run(unable.stop(base::in(std::chrono::seconds(10))));
}

TEST_F(Tls, AnUpstreamIsVerifiedAndShownOurCertificate) {
  ServerTls strict = files();
  strict.client_ca_file = path("ca.pem");
  Server secure(
      "secure", {}, {}, [](Exchange& e) { return test_rig::say(e, std::string(e.header("X-Forwarded-Proto"))); }, io,
      pool, counters);
  ASSERT_TRUE(secure.listen({.host = "127.0.0.1"}, strict));
  const auto handler = [&](const std::string& host) -> Handler {
    return [url = "https://" + host + ":" + std::to_string(secure.port())](Exchange& exchange) -> base::Task<void> {
      auto passed = co_await exchange.pass_through({.url = url});
      if (!passed) static_cast<void>(co_await exchange.respond({.status = 502, .body = passed.error().message}));
    };
  };
  const auto ask = [&](const std::string& host, UpstreamTls tls) {
    serve(handler(host), {}, {}, std::move(tls));
    auto answer = imagecache::test::http(server->port(), "GET", "/x");
    stop(server);
    return answer;
  };
  const UpstreamTls good{.ca_file = path("ca.pem"), .cert_file = path("client.pem")};
  EXPECT_EQ(ask("127.0.0.1", good).body, "http");
  EXPECT_EQ(ask("localhost", good).body, "http");
  const auto misnamed = ask("127.0.0.2", good);
  EXPECT_EQ(misnamed.status, 502);
  Authority other("other");
  other.write(path("other.pem"));
  const auto distrusted = ask("127.0.0.1", {.ca_file = path("other.pem"), .cert_file = path("client.pem")});
  EXPECT_EQ(distrusted.status, 502);
  EXPECT_NE(distrusted.body.find("certificate"), std::string::npos) << distrusted.body;
  EXPECT_EQ(ask("127.0.0.1", {.insecure = true, .cert_file = path("client.pem")}).body, "http");
  EXPECT_EQ(ask("127.0.0.1", {.ca_file = path("ca.pem")}).status, 502);
  io.run(secure.stop(base::in(std::chrono::seconds(10))));
}

}  // namespace
}  // namespace imagecache::http
