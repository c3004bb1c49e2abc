# The messages of Choria's protocol 1, for the MCollective of Debian, which cannot write them by itself: requests signed by
# the owner of a certificate, replies with a hash. Written for tests from the protocol's description. Strict on purpose:
# whatever is not as MCollective with Choria's own plugin would take it raises, and shows in the log.

require "json"
require "openssl"

module MCollective
  module Security
    class Choria < Base
      ENVELOPES = {
        "choria:request:1" => %w[requestid senderid callerid filter collective agent ttl time],
        "choria:reply:1" => %w[requestid senderid agent time]
      }.freeze

      def initialize
        super
        @folder = @config.pluginconf.fetch("choria.ssldir")
        @name = ENV.fetch("MCOLLECTIVE_CERTNAME", @config.identity)
      end

      attr_reader :name

      def callerid
        "choria=#{name}"
      end

      def authority
        File.join(@folder, "certs", "ca.pem")
      end

      def certificate
        @certificate ||= File.read(File.join(@folder, "certs", "#{name}.pem")).chomp
      end

      def key
        @key ||= OpenSSL::PKey.read(File.read(File.join(@folder, "private_keys", "#{name}.pem")))
      end

      def encoderequest(_sender, body, id, filter, agent, collective, ttl = 60)
        text = written("choria:request:1", body,
                       "requestid" => id, "callerid" => callerid, "filter" => filter, "collective" => collective,
                       "agent" => agent, "ttl" => ttl)
        signature = [key.sign("SHA256", text)].pack("m").chomp
        JSON.generate("protocol" => "choria:secure:request:1", "message" => text, "signature" => signature,
                      "pubcert" => certificate)
      end

      def encodereply(agent, body, id, _caller = nil)
        text = written("choria:reply:1", body, "requestid" => id, "agent" => agent)
        JSON.generate("protocol" => "choria:secure:reply:1", "message" => text, "hash" => sum(text))
      end

      def decodemsg(message)
        outside = JSON.parse(message.payload)
        case outside["protocol"]
        when "choria:secure:request:1"
          request(message, outside)
        when "choria:secure:reply:1"
          refuse("a reply was changed on the way") unless outside["hash"] == sum(outside["message"])
          reply(read(outside["message"], "choria:reply:1"))
        else
          refuse("protocol #{outside["protocol"].inspect}")
        end
      end

      def validrequest?(outside)
        request = read(outside["message"], "choria:request:1")
        certificates = OpenSSL::X509::Certificate.load(outside["pubcert"])
        signer = certificates.first
        store = OpenSSL::X509::Store.new.add_file(authority)
        refuse("a certificate of somebody else's authority") unless store.verify(signer, certificates.drop(1))
        caller = request["envelope"]["callerid"].delete_prefix("choria=")
        refuse("#{signer.subject} is not #{caller}") unless OpenSSL::SSL.verify_certificate_identity(signer, caller)
        refuse("#{caller} may not ask") unless caller.end_with?(".mcollective")
        signature = outside["signature"].unpack1("m")
        refuse("a wrong signature") unless signer.public_key.verify("SHA256", signature, outside["message"])
        @stats.validated
        request
      end

      private

      def written(protocol, body, envelope)
        envelope = envelope.merge("senderid" => @config.identity, "time" => Time.now.to_i)
        JSON.generate("protocol" => protocol, "message" => JSON.generate(body), "envelope" => envelope)
      end

      def read(text, protocol)
        fields = JSON.parse(text)
        refuse("protocol #{fields["protocol"].inspect}") unless fields["protocol"] == protocol
        unknown = fields["envelope"].keys - ENVELOPES[protocol]
        refuse("an envelope with #{unknown.join(", ")}") unless unknown.empty?
        fields
      end

      # As the rest of MCollective wants it.
      def request(message, outside)
        fields = validrequest?(outside)
        envelope = fields["envelope"]
        should_process_msg?(message, envelope["requestid"])
        filter = envelope["filter"]
        facts = filter.fetch("fact", []).map { |fact| fact.transform_keys(&:to_sym) }
        common(envelope, JSON.parse(fields["message"])).merge(
          :filter => filter.merge("fact" => facts), :collective => envelope["collective"], :agent => envelope["agent"],
          :callerid => envelope["callerid"], :ttl => envelope["ttl"]
        )
      end

      def reply(fields)
        body = JSON.parse(fields["message"], :symbolize_names => true)
        common(fields["envelope"], body).merge(:senderagent => fields["envelope"]["agent"])
      end

      def common(envelope, body)
        {:senderid => envelope["senderid"], :requestid => envelope["requestid"], :msgtime => envelope["time"], :body => body}
      end

      def sum(text)
        OpenSSL::Digest.new("SHA256").base64digest(text)
      end

      def refuse(reason)
        @stats.unvalidated
        raise SecurityValidationFailed, reason
      end
    end
  end
end
