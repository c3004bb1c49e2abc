# A connection to NATS for the MCollective of Debian, which has none: one server, TLS only. Written for tests from the
# protocols' descriptions. It ends with its connection, since no test wants more.

require "digest"
require "json"
require "openssl"
require "socket"

module MCollective
  module Connector
    class Nats < Base
      def initialize
        @config = Config.instance
        @arrived = Queue.new
        @known = Queue.new
        @subscriptions = {}
        @writing = Mutex.new
      end

      def connect
        return if @stream

        host, port = (setting("federation_middleware_hosts") || setting("middleware_hosts")).split(":")
        socket = TCPSocket.new(host, port)
        socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, true)
        greeting = JSON.parse(socket.gets.delete_prefix("INFO "))
        raise "#{host} does not offer TLS" unless greeting["tls_required"]

        @stream = encrypted(socket, host)
        about = {:verbose => false, :pedantic => true, :protocol => 1, :lang => "ruby", :name => @config.identity}
        send_line("CONNECT #{JSON.generate(about)}")
        Thread.new { listen(@stream) }
        settle
        Log.info("Connected to #{host}:#{port}")
      end

      def disconnect
        stream = @stream
        @stream = nil
        stream&.close
      end

      def subscribe(agent, kind, collective)
        subject = target(agent, kind, collective)
        return if @subscriptions.include?(subject)

        @subscriptions[subject] = @subscriptions.size + 1
        send_line("SUB #{subject} #{@subscriptions[subject]}")
        # An answer must not be missed, and whoever reads the log may rely upon it.
        settle
        Log.info("Subscribed to #{subject}")
      end

      def unsubscribe(agent, kind, collective)
        number = @subscriptions.delete(target(agent, kind, collective))
        send_line("UNSUB #{number}") if number
      end

      def publish(message)
        message.base64_encode!
        headers = {"mc_sender" => @config.identity}
        if message.type == :reply
          asked = message.request.headers
          headers["federation"] = asked["federation"] if asked.include?("federation")
          send_to(asked.fetch("reply-to"), message, headers)
        else
          headers["reply-to"] = message.reply_to || target(message.agent, :reply, message.collective)
          ask(message, headers)
        end
      end

      def receive
        loop do
          content = @arrived.pop
          begin
            fields = JSON.parse(content)
            raise "protocol #{fields["protocol"].inspect}" unless fields["protocol"] == "choria:transport:1"

            return Message.new(fields.fetch("data"), fields, :base64 => true, :headers => fields.fetch("headers"))
          rescue StandardError => e
            Log.warn("Something came that is no message: #{e}")
          end
        end
      end

      private

      # Federated or not, to all or to some.
      def ask(message, headers)
        subjects = [target(message.agent, :broadcast, message.collective)]
        if message.type == :direct_request
          subjects = message.discovered_hosts.map { |host| target(nil, :directed, message.collective, host) }
        end
        clusters = setting("federation.collectives", "").split(",").map(&:strip)
        return subjects.each { |subject| send_to(subject, message, headers) } if clusters.empty?

        clusters.product(subjects.each_slice(200).to_a) do |cluster, targets|
          way = {"federation" => {"req" => message.requestid, "target" => targets}}
          send_to("choria.federation.#{cluster}.federation", message, headers.merge(way))
        end
      end

      def send_to(subject, message, headers)
        content = JSON.generate("protocol" => "choria:transport:1", "data" => message.payload, "headers" => headers)
        send_line(["PUB", subject, headers["reply-to"], content.bytesize].compact.join(" "), content)
      end

      def target(agent, kind, collective, host = @config.identity)
        case kind
        when :broadcast, :request
          "#{collective}.broadcast.agent.#{agent}"
        when :directed, :direct_request
          "#{collective}.node.#{host}"
        when :reply
          caller = Digest::MD5.hexdigest(PluginManager["security_plugin"].callerid)
          "#{collective}.reply.#{caller}.#{Process.pid}.#{Client.request_sequence}"
        else
          raise "Unknown target type #{kind}"
        end
      end

      def encrypted(socket, host)
        security = PluginManager["security_plugin"]
        context = OpenSSL::SSL::SSLContext.new
        context.set_params(:ca_file => security.authority, :verify_mode => OpenSSL::SSL::VERIFY_PEER)
        context.cert = OpenSSL::X509::Certificate.new(security.certificate)
        context.key = security.key
        stream = OpenSSL::SSL::SSLSocket.new(socket, context)
        stream.hostname = host
        stream.sync_close = true
        stream.connect
        stream.post_connection_check(host)
        stream
      end

      def listen(stream)
        while (line = stream.gets)
          case line
          when /\AMSG .* (\d+)\r\n\z/
            @arrived << stream.read($1.to_i)
            stream.read(2)
          when /\APING/
            send_line("PONG")
          when /\APONG/
            @known << true
          when /\A-ERR/
            Log.error(line.chomp)
          end
        end
        Log.error("The server has ended the connection")
      rescue IOError, SystemCallError, OpenSSL::SSL::SSLError => e
        Log.error("The connection has ended: #{e}") if @stream
      end

      # Waits until the server knows what it was told.
      def settle
        send_line("PING")
        @known.pop
      end

      def send_line(*parts)
        @writing.synchronize { @stream.write(parts.map { |part| "#{part}\r\n" }.join) }
      end

      def setting(name, default = nil)
        @config.pluginconf.fetch("choria.#{name}", default)
      end
    end
  end
end
