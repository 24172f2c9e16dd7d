// The Exchange of one request on a client's connection. Private to the room.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "http/connection.hpp"
#include "http/head.hpp"

namespace imagecache::http {

using Scratch = std::array<char, 65536>;

class ClientExchange final : public Exchange {
 public:
  /// The parser's header is done; both outlive the exchange.
  ClientExchange(Connection& connection, RequestParser& parser);

  std::string_view method() const override { return method_; }
  std::string_view target() const override { return target_; }
  std::string_view path() const override { return std::string_view(target_).substr(0, target_.find('?')); }
  std::string_view query() const override;
  std::string_view header(std::string_view name) const override;
  std::vector<Header> headers() const override;
  std::string_view peer() const override { return connection_.peer_; }
  std::string_view scheme() const override { return connection_.transport_.is_tls() ? "https" : "http"; }
  base::Task<Result<std::string>> read_body() override;
  bool answered() const override { return answered_; }
  std::uint64_t body_bytes_sent() const override { return body_bytes_sent_ + (file_position_ - file_begin_); }
  base::Task<Result<void>> respond(Response response) override;
  base::Task<Result<void>> respond_file(Response head, int fd, std::uint64_t offset_bytes,
                                        std::optional<std::uint64_t> length_bytes, WaitAvailable wait) override;
  void drop() override;
  base::Task<Result<unsigned>> pass_through(Upstream upstream) override;
  base::Task<Result<Response>> ask_upstream(Upstream upstream, std::uint64_t max_body_bytes) override;

  /// After the handler: may another request follow on this connection?
  bool may_keep_alive() const { return keep_alive_ && !broken_; }
  bool body_is_read() { return parser_.is_done(); }
  /// The answer broke off and its framing would not tell.
  bool needs_reset() const { return broken_ && until_close_; }

 private:
  struct Upload;
  base::Task<Result<void>> send(std::string_view data, std::size_t body_bytes = 0);
  base::Task<Result<void>> send_file(std::string head, int fd, std::optional<std::uint64_t> length, WaitAvailable wait,
                                     bool chunked);
  /// The next part of the request's body, empty at its end.
  base::Task<Result<std::string_view>> read_some_body(Scratch& buffer, Transport::Patience patience);
  bool expects_continue() const;
  bool has_request_body() const;

  // pass_through.cpp
  std::string head_for(const Url& url, const Upstream& passed, bool with_body) const;
  /// The upstream has the head and has begun to answer.
  struct Asked {
    UpstreamPtr upstream;
    std::unique_ptr<ResponseParser> answer;
  };
  base::Task<Result<Asked>> ask(const Url& url, const Upstream& passed);
  base::Task<Result<UpstreamPtr>> reach(const Url& url, bool may_reuse);
  base::Task<Result<std::unique_ptr<ResponseParser>>> read_answer_head(UpstreamConnection& upstream, const Url& url,
                                                                       Upload* upload);
  base::Task<Result<unsigned>> relay_answer(UpstreamConnection& upstream, const Url& url, ResponseParser& answer,
                                            const OnAnswer& on_answer, Upload* upload);
  /// For the next request, if the answer came to its end. Only after a request that was its head alone, which is sent
  /// whole before an answer is read.
  void keep(const Url& url, UpstreamPtr upstream, ResponseParser& answer);
  base::Task<Result<unsigned>> pass_with_body(const Url& url, const Upstream& passed);
  base::Task<void> upload_body(std::shared_ptr<Upload> state, UpstreamConnection& upstream);
  base::Task<bool> upload_part(UpstreamConnection& upstream, std::string_view part);

  Connection& connection_;
  RequestParser& parser_;
  std::string method_;
  std::string target_;
  std::string host_;  // of an absolute target, which outranks the header
  bool keep_alive_;
  bool http_1_0_;
  bool continued_ = false;   // 100 Continue was said
  bool body_begun_ = false;  // some of the request's body was read
  bool answered_ = false;
  std::uint64_t body_bytes_sent_ = 0;  // but for what was sent of a file
  std::uint64_t file_begin_ = 0;
  std::uint64_t file_position_ = 0;
  bool broken_ = false;       // the answer could not be completed
  bool until_close_ = false;  // the end of the connection is the end of the answer
};

}  // namespace imagecache::http
