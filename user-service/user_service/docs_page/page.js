// Shows the documents of the four services; the one in sight stands in the address, so it can be linked.
const services = ["user-service", "product-service", "order-service", "notification-service"];

window.ui = SwaggerUIBundle({
  dom_id: "#swagger-ui",
  urls: services.map((name) => ({ name, url: `/docs/${name}.json` })),
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
