// Encrypted connections, where the build found OpenSSL.
#include "core/check.h"
#include "serve/connection.h"

#ifdef MLXLM_TLS
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#endif

namespace mlxlm::serve {

#ifdef MLXLM_TLS
namespace {

namespace ssl = asio::ssl;

class TlsLink final : public Link {
 public:
  TlsLink(Socket socket, ssl::context& context)
      : stream_(std::move(socket), context) {}
  void open(Done done) override {
    stream_.async_handshake(
        ssl::stream_base::server,
        [done = std::move(done)](error_code error) { done(error, 0); });
  }
  void read(asio::mutable_buffer into, Done done) override {
    stream_.async_read_some(into, std::move(done));
  }
  void write(asio::const_buffer from, Done done) override {
    asio::async_write(stream_, from, std::move(done));
  }
  Socket& socket() override {
    return stream_.next_layer();
  }

 private:
  ssl::stream<Socket> stream_;
};

class ServerTls final : public TlsContext {
 public:
  ServerTls(const std::string& certificate, const std::string& private_key)
      : context_(ssl::context::tls_server) {
    context_.set_options(
        ssl::context::default_workarounds | ssl::context::no_tlsv1 |
        ssl::context::no_tlsv1_1 | ssl::context::no_compression);
    error_code error;
    context_.use_certificate_chain_file(certificate, error);
    if (error)
      fail(
          ErrorKind::io,
          certificate,
          "expected a PEM certificate chain, found: {}",
          error.message());
    context_.use_private_key_file(private_key, ssl::context::pem, error);
    if (error)
      fail(
          ErrorKind::io,
          private_key,
          "expected the certificate's PEM key, found: {}",
          error.message());
  }
  LinkPtr link(Socket socket) override {
    return std::make_unique<TlsLink>(std::move(socket), context_);
  }

 private:
  ssl::context context_;
};

} // namespace

std::unique_ptr<TlsContext> tls_context(
    const std::string& certificate,
    const std::string& private_key) {
  return std::make_unique<ServerTls>(certificate, private_key);
}

#else

std::unique_ptr<TlsContext> tls_context(
    const std::string&,
    const std::string&) {
  fail(
      ErrorKind::request,
      "serve",
      "expected a build with OpenSSL for TLS, found one without; put a proxy before it");
}

#endif

} // namespace mlxlm::serve
