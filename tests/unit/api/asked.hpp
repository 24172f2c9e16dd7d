// A request that comes from nowhere: its answer is kept.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "http/head.hpp"
#include "http/server.hpp"

namespace imagecache::api::test {

class Asked final : public http::Exchange {
 public:
  explicit Asked(std::string method, std::vector<http::Header> headers, std::string target = "/")
      : method_(std::move(method)), target_(std::move(target)), headers_(std::move(headers)) {}

  std::string_view method() const override { return method_; }
  std::string_view target() const override { return target_; }
  std::string_view path() const override { return target_; }
  std::string_view query() const override { return {}; }
  std::string_view header(std::string_view name) const override {
    for (const auto& [other, value] : headers_) {
      if (http::equals_ignoring_case(other, name)) return value;
    }
    return {};
  }
  std::vector<http::Header> headers() const override { return headers_; }
  std::string_view peer() const override { return "127.0.0.1"; }
  base::Task<Result<std::string>> read_body() override { co_return std::string(); }
  bool answered() const override { return answer.has_value() || dropped; }
  std::uint64_t body_bytes_sent() const override { return 0; }
  base::Task<Result<void>> respond(http::Response response) override {
    answer = std::move(response);
    co_return Result<void>();
  }
  base::Task<Result<void>> respond_file(http::Response head, int, std::uint64_t offset_bytes,
                                        std::optional<std::uint64_t> length_bytes, http::WaitAvailable) override {
    answer = std::move(head);
    sent_offset = offset_bytes;
    sent_bytes = length_bytes;
    co_return Result<void>();
  }
  void drop() override { dropped = true; }
  base::Task<Result<unsigned>> pass_through(http::Upstream) override { co_return nobody(); }
  base::Task<Result<http::Response>> ask_upstream(http::Upstream, std::uint64_t) override { co_return nobody(); }

  std::optional<http::Response> answer;
  std::uint64_t sent_offset = 0;  ///< of an answer from a file
  std::optional<std::uint64_t> sent_bytes;
  bool dropped = false;

 private:
  static std::unexpected<Error> nobody() { return fail(Errc::unsupported, "nobody answers this request"); }

  std::string method_;
  std::string target_;
  std::vector<http::Header> headers_;
};

}  // namespace imagecache::api::test
