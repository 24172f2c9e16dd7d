// Answers byte for byte as a real glance-api 25.1 gave them.
#include "api/glance_answers.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/api/asked.hpp"

namespace imagecache::api {
namespace {

const base::RequestContext context{.request_id = "req-ca5e0000-0000-4000-8000-000000000000"};

std::string header(const http::Response& response, const std::string& name) {
  const auto found = std::ranges::find(response.headers, name, &http::Header::first);
  return found == response.headers.end() ? "" : found->second;
}

TEST(GlanceError, IsHtmlForWhoTakesAnything) {
  const test::Asked curl("GET", {{"Accept", "*/*"}});
  const auto missing = glance_error(404, "Image 00000000-0000-0000-0000-000000000000 not found.", curl, context);
  EXPECT_EQ(missing.body,
            "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n"
            "  Image 00000000-0000-0000-0000-000000000000 not found.<br /><br />\n\n\n\n </body>\n</html>");
  EXPECT_EQ(missing.body.size(), 175U);
  EXPECT_EQ(header(missing, "Content-Type"), "text/html; charset=UTF-8");
  const auto target = glance_error(
      400, "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.", curl, context);
  EXPECT_EQ(target.body.size(), 238U);
  EXPECT_NE(target.body.find("must be &#x27;cache&#x27;, "), std::string::npos);
  const auto range = glance_error(416, "The Range requested is not available.", curl, context,
                                  "Invalid start position in Range header. Start position MUST be in the inclusive "
                                  "range [0, 400455167].");
  EXPECT_EQ(range.body.size(), 300U);
}

TEST(GlanceError, NamesTheMethodThatIsNotAllowed) {
  const auto post = glance_wrong_method("GET, DELETE", test::Asked("POST", {{"Accept", "*/*"}}), context);
  EXPECT_EQ(post.body.size(), 188U);
  EXPECT_EQ(header(post, "Allow"), "GET, DELETE");
}

TEST(GlanceError, IsPlainTextForWhoNamesNothing) {
  const auto plain = glance_error(404, "Image x not found.", test::Asked("GET", {}), context);
  EXPECT_EQ(plain.body, "404 Not Found\n\nImage x not found.\n\n   ");
  EXPECT_EQ(header(plain, "Content-Type"), "text/plain; charset=UTF-8");
  const auto image = glance_error(404, "Image x not found.", test::Asked("GET", {{"Accept", "image/png"}}), context);
  EXPECT_EQ(image.body, plain.body);
}

TEST(GlanceError, IsJsonForWhoPrefersIt) {
  for (const auto* accept : {"application/json", "text/html;q=0.5, application/json", "application/*, text/html;q=0"}) {
    const auto json = glance_error(404, "Image x not found.", test::Asked("GET", {{"Accept", accept}}), context);
    EXPECT_EQ(json.body,
              "{\"message\": \"Image x not found.<br /><br />\\n\\n\\n\", \"code\": \"404 Not Found\", \"title\": "
              "\"Not Found\"}")
        << accept;
  }
  const auto html = glance_error(404, "x", test::Asked("GET", {{"Accept", "application/json, text/html"}}), context);
  EXPECT_EQ(header(html, "Content-Type"), "text/html; charset=UTF-8");
}

TEST(GlanceError, LetsNobodyWriteIntoItsPage) {
  const auto page = glance_error(404, "<script>&\"", test::Asked("GET", {{"Accept", "*/*"}}), context);
  EXPECT_NE(page.body.find("  &lt;script&gt;&amp;&quot;<br />"), std::string::npos);
}

TEST(PythonJson, HasPythonsBlanksAndAsciiAlone) {
  EXPECT_EQ(python_json(Json{{"cached_images", Json::array()}, {"queued_images", Json::array()}}),
            "{\"cached_images\": [], \"queued_images\": []}");
  EXPECT_EQ(python_json(Json{{"a", {1, 2.5, nullptr, true}}, {"ü", "\xff"}}),
            "{\"a\": [1, 2.5, null, true], \"\\u00fc\": \"\\ufffd\"}");
  EXPECT_EQ(python_json(Json(1795384155.8612678)), "1795384155.8612678");
}

}  // namespace
}  // namespace imagecache::api
