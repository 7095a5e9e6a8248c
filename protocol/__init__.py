"""What the appliance and the cloud say to each other; pure, and shared by both."""
